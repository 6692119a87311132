"""Serve the recommendations over HTTP, from the lake's export or from Redis."""

import gc
import logging
import os
import signal
import sys

import click

from bought_together.cli import lake_path_option, program, redis_prefix_option


@program
@click.option("--host", envvar="HOST", default="127.0.0.1", show_envvar=True)
@click.option(
    "--port", envvar="PORT", type=click.IntRange(0, 65535), default=8000, show_envvar=True
)
@click.option(
    "--root-path",
    envvar="ROOT_PATH",
    default="",
    show_envvar=True,
    help="Path of the service on a proxy that strips it from requests, for example /shop.",
)
@redis_prefix_option
@lake_path_option
def main(host: str, port: int, root_path: str, redis_prefix: str, lake_path: str) -> None:
    """Serve until stopped: the API under /v1, its description at /docs, a storefront at /.

    With REDIS_URL in the environment the answers come from that Redis, otherwise from the export
    of the lake, held in memory. The service takes up a new version within seconds.
    """
    import pyarrow as pa
    import uvicorn

    from bought_together.service.backends import Backend, LakeBackend, RedisBackend
    from bought_together.service.http_protocol import (
        JsonRefusals,
        bind,
        checked_root_path,
        leave_out_invalid_requests,
    )
    from bought_together.service.refreshing import FirstRefresh

    logging.basicConfig(
        format="%(asctime)s %(levelname)-7s %(message)s", level=logging.INFO, stream=sys.stderr
    )
    for client in ("botocore", "aiobotocore"):  # says where it found credentials, and endpoints
        logging.getLogger(client).setLevel(logging.WARNING)
    leave_out_invalid_requests()
    pa.set_memory_pool(pa.system_memory_pool())  # gives back what an older version held
    root_path = checked_root_path(root_path)
    redis_url = os.environ.get("REDIS_URL")
    backend: Backend = (
        RedisBackend(redis_url, redis_prefix) if redis_url else LakeBackend(lake_path)
    )
    sockets = bind(host, port)  # before anything is loaded, since the port may be in use
    first_refresh = FirstRefresh(backend)
    from bought_together.service.app import create_app  # takes a second, as the first refresh does

    gc.freeze()  # else a full collection walks over every imported module and holds up all answers
    config = uvicorn.Config(
        create_app(backend, first_refresh),
        root_path=root_path,
        http=JsonRefusals,
        ws="none",
        access_log=False,  # /metrics counts requests; a log of them all costs a third of the speed
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # uvicorn handles it, then raises it again
    uvicorn.Server(config).run(sockets)


if __name__ == "__main__":
    main()
