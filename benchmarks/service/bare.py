"""The bare minimum of such a web application: constant bytes, and one value from Redis.

It runs under the same server as the service, so that the difference is the service's own cost.
"""

import os
from pathlib import Path

import redis.asyncio
import uvicorn
from fastapi import FastAPI, Response

KEY = "bare:answer"


def create_app(answer: bytes, redis_url: str) -> FastAPI:
    client = redis.asyncio.Redis.from_url(redis_url)
    app = FastAPI()

    @app.get("/constant")
    async def constant() -> Response:
        return Response(answer, media_type="application/json")

    @app.get("/redis")
    async def from_redis() -> Response:
        return Response(await client.get(KEY), media_type="application/json")

    return app


if __name__ == "__main__":
    uvicorn.run(
        create_app(Path(os.environ["ANSWER"]).read_bytes(), os.environ["REDIS_URL"]),
        port=int(os.environ["PORT"]),
        access_log=False,
        log_config=None,
        server_header=False,
    )
