"""Clients of the service that check that each answer is from a single version."""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from benchmarks.service.simulated import (
    RECOMMENDATIONS,
    version_of_count,
    version_of_name,
    version_of_text,
)

BATCH = 10
BATCHES = 0.1  # of all requests
SECONDS_TO_ANSWER = 10.0
MOST_REQUESTS = 1_000_000  # of one client
PAUSE_AFTER_FAILURE = 0.05


class Failed(Exception):
    """The answer does not match the request; the message is the reason, in one line."""


@dataclass
class Tally:
    """The answers that the clients of one service got."""

    requests: int = 0
    failed: int = 0
    mixed: int = 0
    latest: int | None = None  # the version of the last answer
    histories: list[list[int]] = field(default_factory=list)  # of each client: versions in turn
    problems: list[str] = field(default_factory=list)


class Connection:
    """One kept-alive connection, which opens again after a failure."""

    def __init__(self, url: str) -> None:
        self.address = urlsplit(url)
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str) -> tuple[str, dict[str, Any]]:
        """Return the version in an answer's header, and the answer; raises Failed."""
        try:
            async with asyncio.timeout(SECONDS_TO_ANSWER):
                status, headers, body = await self.exchange(path)
        except (OSError, EOFError, TimeoutError) as error:
            self.close()
            raise Failed(f"{path}: {type(error).__name__}: {error}") from error
        if status != 200:
            raise Failed(f"{path}: status {status}: {body[:200].decode(errors='replace')}")
        return headers.get("x-data-version", "none"), json.loads(body)

    async def exchange(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if self.streams is None:
            self.streams = await asyncio.open_connection(self.address.hostname, self.address.port)
        reader, writer = self.streams
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {self.address.netloc}\r\n\r\n".encode())
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        body = await reader.readexactly(int(headers["content-length"]))
        return int(first.split()[1]), headers, body

    def close(self) -> None:
        if self.streams:
            self.streams[1].close()
        self.streams = None


async def ask(url: str, products: range, tally: Tally, is_over: Callable[[], bool]) -> None:
    """Ask for random products, one after another, until `is_over` is true."""
    chance = random.Random(len(tally.histories))
    history: list[int] = []
    tally.histories.append(history)
    connection = Connection(url)
    for _ in range(MOST_REQUESTS):
        if is_over():
            break
        is_batch = chance.random() < BATCHES
        asked = [str(each) for each in chance.sample(products, BATCH if is_batch else 1)]
        tally.requests += 1
        try:
            versions = versions_in(asked, *await ask_for(connection, asked))
        except Failed as error:
            tally.failed += 1
            tally.problems.append(str(error))
            await asyncio.sleep(PAUSE_AFTER_FAILURE)
            continue
        if len(versions) > 1:
            tally.mixed += 1
            tally.problems.append(f"{asked}: of versions {sorted(versions)}")
            continue
        (tally.latest,) = versions
        if history[-1:] != [tally.latest]:
            history.append(tally.latest)
    connection.close()


async def ask_for(connection: Connection, asked: list[str]) -> tuple[str, list[dict[str, Any]]]:
    """Return the name of the version and the answers for one product or several."""
    if len(asked) == 1:
        name, answer = await connection.get(f"/v1/products/{asked[0]}/recommendations")
        return name, [answer]
    query = "&".join(f"product_id={product_id}" for product_id in asked)
    name, answer = await connection.get(f"/v1/recommendations?{query}")
    return name, answer["products"]


def versions_in(asked: list[str], name: str, answers: list[dict[str, Any]]) -> set[int]:
    """Return the versions of an answer's header, names, categories and counts.

    Raises Failed when these are not the answers for the requested products.
    """
    try:
        if [answer["product_id"] for answer in answers] != asked:
            raise Failed(f"{asked}: answered for others")
        if any(len(answer["recommendations"]) != RECOMMENDATIONS for answer in answers):
            raise Failed(f"{asked}: not {RECOMMENDATIONS} recommendations each")
        found = {version_of_name(name)}
        for answer in answers:
            found.add(version_of_text(answer["product_name"]))
            for recommendation in answer["recommendations"]:
                found.add(version_of_text(recommendation["product_name"]))
                found.add(version_of_text(recommendation["category_code"]))
                found.add(version_of_count(recommendation["copurchase_count"]))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Failed(f"{asked}: {type(error).__name__}: {error}") from error
    return found
