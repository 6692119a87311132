"""REDIS_URL: redis://, rediss:// (TLS) or unix://, with its password kept out of every message."""

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
    """Return a client of `kind`, redis.Redis or redis.asyncio.Redis; nothing is sent yet.

    Raises CannotRun, without quoting the address, where it is none: in a password that is not
    percent-encoded, any part of it may look like a host or a port.
    """
    try:
        return kind.from_url(url, **options)
    except ValueError:
        raise CannotRun(
            "REDIS_URL is no address like redis://host:6379/0 or rediss://user:password@host:6379/0"
            " (percent-encode what is special in a password)"
        ) from None


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what a client raises into CannotRun."""
    try:
        yield
    except redis.RedisError as error:
        raise CannotRun(explain(url, error)) from error


def explain(url: str, error: Exception) -> str:
    """Return in one line, without a secret, what went wrong at an address."""
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
