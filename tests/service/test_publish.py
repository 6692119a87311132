"""A publish is whole or has not happened, wherever it ends; and every reader gives one answer."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import redis
from starlette.testclient import TestClient

from bought_together.errors import CannotRun
from bought_together.export.answers import encode_answers
from bought_together.export.read import read_export
from bought_together.export.redis_versions import PARTS, UNFINISHED_KEPT_SECONDS
from bought_together.export.redis_versions import publish as publish_version
from bought_together.service.backends import LakeBackend
from tests.support import ROOT
from tests.support.exports import LISTED, ROWS, write_export
from tests.support.processes import assert_one_line, kill_when, start
from tests.support.real_data import real
from tests.support.service import KEYS, call, path_of, publish, running, serving
from tests.support.shop import Shop
from tests.support.valkey import Valkey

HOUR = 3600


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop(signal.SIGKILL)


@pytest.fixture
def valkey(server: Valkey) -> Valkey:
    server.client().flushall()
    return server


def build(shop: Shop, number: int) -> None:
    """A build that differs from all others in the count of one pair."""
    write_export(shop, [*ROWS[:2], (*ROWS[2][:5], number)], LISTED, build=number)


def roll_back(shop: Shop, valkey: Valkey, *builds: str) -> None:
    finished = call(shop, "rollback", *builds, REDIS_URL=valkey.url())
    assert finished.returncode == 0, finished.stderr


def current(valkey: Valkey) -> str:
    return valkey.client().get(KEYS.current)


def assert_whole(valkey: Valkey) -> int:
    """What is current is complete, of one build and stays; what is not goes; returns the build."""
    client = valkey.client()
    published_id = current(valkey)
    manifest = json.loads(client.get(KEYS.part(published_id, "manifest")))
    answers = client.hgetall(KEYS.part(published_id, "answers"))
    assert len(answers) == manifest["products"] >= len(LISTED)
    number = json.loads(answers["11"])["recommendations"][0]["copurchase_count"]
    assert manifest["built_at"].startswith(f"2026-01-{number:02d}T")
    for name in client.scan_iter("*"):
        stays = name == KEYS.current or name in [KEYS.part(published_id, part) for part in PARTS]
        assert (client.ttl(name) == -1) == stays, name
    return number


class Killed(BaseException):
    """Ends a publish as a kill would: nobody catches it."""


class Fragile(redis.Connection):
    """A connection over which a number of commands can be sent; then the program dies."""

    left = 0
    dies_before_sending = True

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        Fragile.left -= 1
        if Fragile.left < 0 and self.dies_before_sending:
            raise Killed
        super().send_packed_command(command, check_health)
        if Fragile.left < 0:
            raise Killed


# Of the dead connection's pipeline, which would like to say good-bye.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("dies_before_sending", [True, False])
def test_killed_at_any_command_a_whole_version_is_current(
    shop, valkey, monkeypatch, dies_before_sending
):
    build(shop, 1)
    publish(shop, valkey)
    build(shop, 2)
    monkeypatch.setattr(Fragile, "dies_before_sending", dies_before_sending)
    export = read_export(str(shop.lake))
    found = []
    for commands in range(100):
        Fragile.left = commands
        pool = redis.ConnectionPool(connection_class=Fragile, port=valkey.port)
        client = redis.Redis(connection_pool=pool)
        try:
            batches = encode_answers(export)
            publish_version(client, KEYS, export, batches, HOUR)
        except Killed:
            found.append(assert_whole(valkey))
        else:
            break
    assert assert_whole(valkey) == 2
    assert len(found) > 5 and set(found[:5]) == {1}


def test_killed_for_real_the_old_version_is_current_and_the_next_publish_works(shop, valkey):
    build(shop, 1)
    publish(shop, valkey)
    lake = replace(shop, folder=shop.folder / "large")
    rows = [(str(number), 1, "011", "Milk", "M", 1) for number in range(200_000)]
    lake.folder.mkdir()
    write_export(lake, rows, LISTED, build=3)

    def is_half_written() -> bool:
        keys = valkey.client().keys("bought-together:20260103*:answers")
        return any(valkey.client().hlen(name) > 1000 for name in keys)

    program = [sys.executable, ROOT / "scripts/publish.py"]
    kill_when(start(lake, program, REDIS_URL=valkey.url()), is_half_written)
    assert assert_whole(valkey) == 1
    build(shop, 2)
    publish(shop, valkey)
    assert assert_whole(valkey) == 2


def test_what_is_replaced_expires_and_can_be_gone_back_to(shop, valkey):
    for number in (1, 2, 3):
        build(shop, number)
        publish(shop, valkey, "--keep-hours", "5")
    assert assert_whole(valkey) == 3
    lives = [valkey.client().ttl(name) for name in valkey.client().scan_iter("*")]
    assert sorted(lives)[:4] == [-1] * 4  # the pointer and three parts
    assert all(4 * HOUR < life <= 5 * HOUR for life in sorted(lives)[4:])
    for number in (2, 1):
        roll_back(shop, valkey)
        assert assert_whole(valkey) == number
    finished = call(shop, "rollback", REDIS_URL=valkey.url())
    assert_one_line(finished, 2, "nothing to go back to")
    assert assert_whole(valkey) == 1


def test_rolled_back_the_newer_build_can_be_published_again(shop, valkey):
    for number in (1, 2):
        build(shop, number)
        publish(shop, valkey)
    roll_back(shop, valkey)
    publish(shop, valkey)
    assert assert_whole(valkey) == 2
    roll_back(shop, valkey)
    assert assert_whole(valkey) == 1


def test_what_has_expired_cannot_be_gone_back_to(shop, valkey):
    ids = []
    for number in (1, 2):
        build(shop, number)
        publish(shop, valkey)
        ids.append(current(valkey))
    valkey.client().delete(KEYS.part(ids[0], "answers"))
    finished = call(shop, "rollback", REDIS_URL=valkey.url())
    assert_one_line(finished, 2, "nothing to go back to")
    assert assert_whole(valkey) == 2


def test_the_same_build_again_is_nothing_to_do(shop, valkey):
    build(shop, 1)
    publish(shop, valkey)
    before = current(valkey)
    finished = call(shop, "publish", REDIS_URL=valkey.url())
    assert (finished.returncode, "already" in finished.stdout) == (0, True)
    assert current(valkey) == before


@pytest.mark.parametrize("part", PARTS)
def test_the_same_build_again_mends_what_was_lost(shop, valkey, part):
    build(shop, 1)
    publish(shop, valkey)
    valkey.client().delete(KEYS.part(current(valkey), part))
    publish(shop, valkey)
    assert assert_whole(valkey) == 1


def test_a_killed_publish_leaves_nothing_for_long(shop, valkey):
    build(shop, 1)
    export = read_export(str(shop.lake))

    def killed_after_one() -> Iterator[pa.RecordBatch]:
        yield from encode_answers(export)
        raise Killed

    with pytest.raises(Killed):
        publish_version(valkey.client(), KEYS, export, killed_after_one(), HOUR)
    (left,) = valkey.client().keys("*")
    assert 0 < valkey.client().ttl(left) <= UNFINISHED_KEPT_SECONDS


def test_what_does_not_arrive_whole_is_not_made_current(shop, valkey):
    """Here because two answers of one product are one field."""
    build(shop, 1)
    publish(shop, valkey)
    build(shop, 2)
    export = read_export(str(shop.lake))
    batches = [*encode_answers(export), *encode_answers(export)]
    with pytest.raises(CannotRun, match="5 of 10 answers arrived"):
        publish_version(valkey.client(), KEYS, export, iter(batches), HOUR)
    assert assert_whole(valkey) == 1


def test_two_publishes_at_once_leave_one_whole(shop, valkey):
    build(shop, 1)
    publish(shop, valkey)
    other = replace(shop, folder=shop.folder / "other")
    other.folder.mkdir()
    build(shop, 2)
    build(other, 3)
    program = [sys.executable, ROOT / "scripts/publish.py"]
    processes = [start(each, program, REDIS_URL=valkey.url()) for each in (shop, other)]
    # The older build is refused when it comes last.
    assert [process.wait(60) for process in processes] in ([0, 0], [2, 0])
    assert assert_whole(valkey) == 3


def test_redis_that_is_full_keeps_what_it_serves(shop, valkey):
    build(shop, 1)
    publish(shop, valkey)
    used = valkey.client().info("memory")["used_memory"]
    valkey.client().config_set("maxmemory", used + 200_000)
    try:
        rows = [(str(number), 1, "011", "Milk", "M", 1) for number in range(20_000)]
        write_export(shop, rows, LISTED, build=2)
        finished = call(shop, "publish", REDIS_URL=valkey.url())
        assert_one_line(finished, 2, "maxmemory", valkey.port)
        assert assert_whole(valkey) == 1
    finally:
        valkey.client().config_set("maxmemory", 0)


def test_nothing_to_publish_with_is_one_line(shop, valkey):
    assert_one_line(call(shop, "publish"), 2, "REDIS_URL is not set")
    assert_one_line(call(shop, "publish", REDIS_URL=valkey.url()), 2, "make build")
    assert_one_line(call(shop, "publish", REDIS_URL="redis://127.0.0.1:1/0"), 2, "make build")


def test_nothing_to_roll_back_is_one_line(shop, valkey):
    assert_one_line(call(shop, "rollback"), 2, "make build")
    nothing = call(shop, "rollback", REDIS_URL=valkey.url())
    assert_one_line(nothing, 2, "nothing is published to Redis yet")
    away = call(shop, "rollback", REDIS_URL="redis://127.0.0.1:1/0")
    assert_one_line(away, 2, "127.0.0.1:1", "refused")


def test_an_older_build_never_replaces_a_newer_one(shop, valkey):
    """As a publish does that was held up while another overtook it."""
    build(shop, 2)
    publish(shop, valkey)
    before = current(valkey)
    build(shop, 1)
    finished = call(shop, "publish", REDIS_URL=valkey.url())
    assert_one_line(finished, 2, "20260102T", "is newer than 20260101T", "make rollback")
    assert current(valkey) == before and assert_whole(valkey) == 2


def test_a_named_build_is_served_again_back_and_forward(shop, valkey):
    names = []
    for number in (1, 2, 3):
        build(shop, number)
        publish(shop, valkey)
        names.append(shop.published.name)
    for number in (1, 3, 2):
        roll_back(shop, valkey, names[number - 1])
        assert assert_whole(valkey) == number
    finished = call(shop, "rollback", "20250101T000000Z-0", REDIS_URL=valkey.url())
    assert_one_line(finished, 2, "20250101T000000Z-0 is not in Redis")


def test_the_lake_goes_back_and_forward(shop):
    for number in (1, 2, 3):
        build(shop, number)
    last = shop.published.name
    for number in (2, 1):
        assert call(shop, "rollback").returncode == 0
        assert shop.recommendations()[-1][-1] == number
    assert_one_line(call(shop, "rollback"), 2, shop.lake, "no build before")
    assert call(shop, "rollback", last).returncode == 0
    assert shop.published.name == last
    assert_one_line(call(shop, "rollback", "20250101T000000Z-0"), 2, "holds no build", last)
    assert shop.published.name == last


def looked_up(shop: Shop, product_ids: list[str]) -> list[Any]:
    """What the lookup says of each product, asked on standard input."""
    finished = subprocess.run(
        [sys.executable, ROOT / "scripts/recommend.py", "--json"],
        env=shop.environment(),
        input="".join(f"{product_id}\n" for product_id in product_ids),
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in finished.stdout.splitlines() if line]


def served(client: TestClient, product_ids: list[str]) -> list[Any]:
    return [client.get(path_of(product_id)).json() for product_id in product_ids]


def test_every_reader_gives_the_same_answers_for_the_sample(shop, valkey):
    assert_same_answers(shop, valkey, ROOT / "data/transactions.txt", ROOT / "data/products.txt")


def test_every_reader_gives_the_same_answers_for_online_retail(shop, valkey):
    transactions = real("online_retail", "transactions.txt.gz")
    assert_same_answers(shop, valkey, transactions, real("online_retail", "products.txt"))


def assert_same_answers(shop: Shop, valkey: Valkey, transactions: Path, products: Path) -> None:
    shop.build(TRANSACTIONS=transactions, PRODUCTS=products)
    listed = [row["product_id"] for row in shop.table("products").to_pylist()]
    rows = duckdb.read_parquet(str(shop.export)).project("product_id").distinct().fetchall()
    product_ids = sorted({*listed, *(product_id for (product_id,) in rows)})
    assert len(product_ids) > len(rows)
    expected = looked_up(shop, product_ids)
    assert [answer["product_id"] for answer in expected] == product_ids
    publish(shop, valkey)
    with serving(LakeBackend(str(shop.lake))) as client:
        assert served(client, product_ids) == expected
    with running(shop, REDIS_URL=valkey.url()) as service:
        service.wait_for(200)
        found = [service.recommendations(product_id) for product_id in product_ids]
        assert found == expected
