"""Connect to REDIS_URL (redis://, rediss:// or unix://), and keep its secrets out of messages."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

import redis
import redis.asyncio

from bought_together.errors import CannotRun

CONNECT_SECONDS = 2.0
LONGEST_SECONDS = 3600.0
# RedisClusterException is no RedisError.
ERRORS = (redis.RedisError, redis.exceptions.RedisClusterException, OSError)
# Options that change how a client connects. Others would change what it returns, or end it.
OPTIONS = (
    *("cluster", "client_name", "db", "health_check_interval", "protocol"),
    *("socket_connect_timeout", "socket_keepalive", "socket_timeout"),
    *("ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname"),
    *("ssl_keyfile", "ssl_password"),
)
SCHEMES = ("redis://", "rediss://", "unix://")
NO_ADDRESS = (
    "REDIS_URL is not an address like redis://host:6379/0 or rediss://user:password@host:6379/0"
    " (percent-encode special characters in a password)"
)


def connect(url: str, **options: Any) -> Any:
    """Return a client of the Redis at `url`, or with `?cluster=true` of the Redis Cluster.

    Only the client of a cluster connects at once. Raises CannotRun for an invalid address.
    """
    address, is_cluster = checked(url)
    kind: Any = redis.RedisCluster if is_cluster else redis.Redis
    with explained(url):
        return kind.from_url(address, **options)


def connect_async(url: str, max_connections: int, **options: Any) -> Any:
    """Return an asynchronous client, as `connect` does, without connecting yet.

    While all its connections are busy, a request waits for one as long as for an answer.
    """
    address, is_cluster = checked(url)
    if is_cluster:
        return redis.asyncio.RedisCluster.from_url(
            address, max_connections=max_connections, **options
        )
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        address, max_connections=max_connections, timeout=options["socket_timeout"], **options
    )
    return redis.asyncio.Redis.from_pool(pool)


def checked(url: str) -> tuple[str, bool]:
    """Return the address without the option `cluster`, and whether that is on.

    Raises CannotRun for an invalid address. The message does not quote it, since any part of it may
    be a password that is not percent-encoded.
    """
    try:
        parts, options = parse(url)
    except ValueError:
        raise CannotRun(NO_ADDRESS) from None
    if not options.keys() <= set(OPTIONS):
        raise CannotRun(f"REDIS_URL has an unsupported option; supported: {', '.join(OPTIONS)}")
    is_cluster = options.pop("cluster", "false").lower()
    address = url.partition("?")[0] + (f"?{urlencode(options)}" if options else "")
    try:
        for name in ("socket_connect_timeout", "socket_timeout"):
            if not 0 < float(options.get(name, 1)) < LONGEST_SECONDS:
                raise ValueError
        if is_cluster not in ("true", "false") or (is_cluster == "true" and not parts.hostname):
            raise ValueError
        pool = redis.ConnectionPool.from_url(address)
        pool.make_connection()  # checks the values, and does not connect
    except (TypeError, ValueError, redis.RedisError):
        raise CannotRun("REDIS_URL has an option with an invalid value") from None
    return address, is_cluster == "true"


def parse(url: str) -> tuple[SplitResult, dict[str, str]]:
    """Return the parts and options of an address.

    Raises ValueError for parts that the client would ignore, since these may be a password.
    """
    if not url.startswith(SCHEMES):
        raise ValueError
    url.encode()  # fails for bytes that are not UTF-8
    parts = urlsplit(url)
    query = parts.query
    options = dict(parse_qsl(query, strict_parsing=True, keep_blank_values=True)) if query else {}
    if parts.scheme == "unix":
        is_valid = bool(parts.path) and not parts.hostname
    else:
        host = unquote(parts.hostname or "")
        host.encode("idna")
        is_database = re.fullmatch(r"/?[0-9]*", parts.path)
        is_valid = is_database is not None
    if not is_valid or parts.port == 0 or parts.fragment or "\0" in unquote(url):
        raise ValueError
    return parts, options


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn the errors of a client into CannotRun."""
    try:
        yield
    except ERRORS as error:
        raise CannotRun(explain(url, error)) from error


def explain(url: str, error: Exception) -> str:
    """Return a client's error in one line, with the address but without its secrets.

    It has the host: it belongs in the log, and in no answer of the service.
    """
    if isinstance(error, redis.AuthenticationError):
        reason = "user or password refused"
    elif isinstance(error, redis.TimeoutError):
        reason = "no answer in time"
    elif isinstance(error, redis.exceptions.MovedError):
        reason = "it is one node of a Redis Cluster: add ?cluster=true to REDIS_URL"
    elif isinstance(error, redis.ConnectionError | OSError):
        cause = error.__cause__ or error.__context__ or error
        reason = f"cannot connect ({getattr(cause, 'strerror', None) or cause})"
    else:
        reason = str(error)
    parts, options = parse(url)
    host = parts.netloc.rpartition("@")[2]
    # A server that does not know HELLO or AUTH quotes their arguments.
    for secret in (parts.password, unquote(parts.password or ""), options.get("ssl_password")):
        if secret:
            reason = reason.replace(secret, "***")
    return f"Redis at {parts.scheme}://{host}{parts.path}: {' '.join(reason.split())}"
