"""Connect to REDIS_URL (redis://, rediss:// or unix://), and keep its password out of messages."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import redis

from bought_together.errors import CannotRun

CONNECT_SECONDS = 2.0


def safe(url: str) -> str:
    """Return the address without user, password and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def connect(url: str, kind: Any = redis.Redis, **options: Any) -> Any:
    """Return a client of `kind` (redis.Redis, redis.asyncio.Redis) without connecting yet.

    Raises CannotRun for an invalid address. The message does not quote it, since any part of it may
    be a password that is not percent-encoded.
    """
    try:
        return kind.from_url(url, **options)
    except ValueError:
        raise CannotRun(
            "REDIS_URL is not an address like redis://host:6379/0 or rediss://user:password@host:6379/0"
            " (percent-encode special characters in a password)"
        ) from None


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn the errors of a client into CannotRun."""
    try:
        yield
    except redis.RedisError as error:
        raise CannotRun(explain(url, error)) from error


def explain(url: str, error: Exception) -> str:
    """Return a client's error in one line, with the address but without its secrets."""
    if isinstance(error, redis.AuthenticationError):
        reason = "user or password refused"
    elif isinstance(error, redis.TimeoutError):
        reason = "no answer in time"
    elif isinstance(error, redis.ConnectionError):
        cause = error.__cause__ or error.__context__ or error
        reason = f"cannot connect ({getattr(cause, 'strerror', None) or cause})"
    else:
        reason = str(error)
    return f"Redis at {safe(url)}: {reason}"
