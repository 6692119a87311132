"""What Redis holds: whole or mended, of one shop, in one hash slot, and reached by any address.

Redis is valkey-server, from a package, on a port of the test's own.
"""

import json
import signal
import socketserver
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from redis.crc import key_slot

from bought_together.export import redis_url
from bought_together.service.backends import RedisBackend
from tests.support import ROOT
from tests.support.exports import LISTED, ROWS, write_export
from tests.support.processes import assert_one_line
from tests.support.service import KEYS, call, path_of, publish, serving
from tests.support.shop import Shop
from tests.support.valkey import Valkey, cluster

ANSWERS, PRODUCTS, MANIFEST = "answers", "products", "manifest"


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


@pytest.fixture
def lake(shop: Shop) -> Shop:
    write_export(shop, ROWS, LISTED)
    return shop


def test_the_newest_date_of_the_data_is_published(shop, valkey):
    write_export(shop, ROWS, LISTED, newest="2025-12-31 20:15:30")
    publish(shop, valkey)
    with serving(RedisBackend(valkey.url(), KEYS.prefix)) as client:
        assert client.get("/readyz").json()["newest_ordered_at"] == "2025-12-31T20:15:30+00:00"


def names(valkey: Valkey) -> dict[str, str]:
    """Return the names of the current version's parts."""
    published_id = valkey.client().get(KEYS.current)
    return {part: KEYS.part(published_id, part) for part in (ANSWERS, PRODUCTS, MANIFEST)}


def assert_served(shop: Shop, url: str, prefix: str = KEYS.prefix, build: int = 1) -> None:
    """Every answer in Redis is the lake's, and no part of the version is about to go."""
    with serving(RedisBackend(url, prefix)) as client:
        ready = client.get("/readyz").json()
        assert ready["version"].startswith(f"202601{build:02d}T")
        assert ready["products"] == len({row[0] for row in ROWS} | {row[0] for row in LISTED})
        found = client.get(path_of("011")).json()
        assert [row["product_id"] for row in found["recommendations"]] == ["0012", "12"]


def damage(client: Any, part: str, how: str) -> None:
    if how == "gone":
        client.delete(part)
    elif how == "expiring":
        client.expire(part, 3600)
    elif how == "another type":
        client.delete(part)
        client.lpush(part, "x")
    elif how == "cut":
        client.set(part, client.getrange(part, 0, 40))
    elif how == "one answer less":
        client.hdel(part, "011")
    elif how == "one answer more":
        client.hset(part, "another", "{}")
    elif how == "one answer renamed":
        client.hset(part, "another", "{}")
        client.hdel(part, "lonely")
    elif how == "one answer changed":
        client.hset(part, "011", client.hget(part, "11"))
    elif how == "wrong count":
        client.set(part, json.dumps(json.loads(client.get(part)) | {"products": 5}))
    elif how == "no count":
        client.set(part, "[]")


@pytest.mark.parametrize(
    ("part", "how"),
    [
        *((part, how) for part in (ANSWERS, PRODUCTS, MANIFEST) for how in ("gone", "expiring")),
        *((part, "another type") for part in (ANSWERS, PRODUCTS, MANIFEST)),
        *((part, "cut") for part in (PRODUCTS, MANIFEST)),
        *((ANSWERS, f"one answer {how}") for how in ("less", "more", "renamed", "changed")),
        (MANIFEST, "wrong count"),
        (MANIFEST, "no count"),
    ],
)
def test_publishing_again_mends_any_damage(lake, valkey, part, how):
    assert "6 products" in publish(lake, valkey)
    damage(valkey.client(decode_responses=False), names(valkey)[part], how)
    assert "6 products" in publish(lake, valkey)
    assert_served(lake, valkey.url())
    assert [valkey.client().ttl(name) for name in names(valkey).values()] == [-1, -1, -1]
    assert "already: nothing to do" in publish(lake, valkey)


@pytest.mark.parametrize("pointer", ["20260101T030000Z-00000001.0", "nonsense", b"\xff", None])
def test_publishing_again_mends_a_pointer_to_nothing(lake, valkey, pointer):
    publish(lake, valkey)
    client = valkey.client()
    client.delete(KEYS.current)
    if pointer is None:
        client.lpush(KEYS.current, "x")
    else:
        client.set(KEYS.current, pointer)
    assert "6 products" in publish(lake, valkey)
    assert_served(lake, valkey.url())


def test_what_was_mended_is_rolled_back_to_as_well(lake, valkey):
    publish(lake, valkey)
    damage(valkey.client(), names(valkey)[ANSWERS], "one answer less")
    publish(lake, valkey)
    write_export(lake, ROWS, LISTED, build=2)
    publish(lake, valkey)
    damage(valkey.client(), names(valkey)[ANSWERS], "one answer less")
    publish(lake, valkey)
    finished = call(lake, "rollback", REDIS_URL=valkey.url())
    assert finished.returncode == 0, finished.stderr
    assert_served(lake, valkey.url(), build=1)


def test_a_build_that_redis_lost_is_rolled_back_to_from_the_lake(lake, valkey):
    first = lake.published.name
    for build in (1, 2):
        write_export(lake, ROWS, LISTED, build=build)
        publish(lake, valkey)
    second = lake.published.name
    client = valkey.client()
    for name in client.keys("*20260101*"):
        client.delete(name)
    unnamed = call(lake, "rollback", REDIS_URL=valkey.url())
    assert_one_line(unnamed, 2, f"no build before {second}", "BUILD=<id>")
    finished = call(lake, "rollback", first, REDIS_URL=valkey.url())
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == f"rolled back from {second} to {first}\n"
    assert_served(lake, valkey.url(), build=1)
    assert call(lake, "rollback", BUILD=second, REDIS_URL=valkey.url()).returncode == 0
    assert_served(lake, valkey.url(), build=2)
    nowhere = call(lake, "rollback", "20250101T000000Z-0", REDIS_URL=valkey.url())
    assert_one_line(nowhere, 2, "is not in Redis", f"{lake.lake} holds no build", first, second)


def test_keys_of_the_earlier_naming_are_served_replaced_and_rolled_back_to(lake, valkey):
    """As release 1.0.0 wrote them: without a hash tag, and without the newest date."""
    publish(lake, valkey)
    client = valkey.client(decode_responses=False)
    earlier = "20260101T030000Z-00000001.0123abcd"
    for part, name in names(valkey).items():
        client.rename(name, KEYS.part(earlier, part))
    manifest = KEYS.part(earlier, MANIFEST)
    content = json.loads(client.get(manifest)) | {"previous": None}
    del content["newest_ordered_at"]
    client.set(manifest, json.dumps(content))
    client.set(KEYS.current, earlier)
    assert_served(lake, valkey.url(), build=1)
    write_export(lake, ROWS, LISTED, build=2)
    publish(lake, valkey)
    assert_served(lake, valkey.url(), build=2)
    assert all(client.ttl(KEYS.part(earlier, part)) > 0 for part in (ANSWERS, PRODUCTS, MANIFEST))
    assert call(lake, "rollback", REDIS_URL=valkey.url()).returncode == 0
    assert_served(lake, valkey.url(), build=1)


def test_two_shops_share_one_redis(tmp_path, dbt_folder, valkey):
    """The prefix of one may begin with the other's."""
    shops = {}
    for build, prefix in ((1, "bought-together"), (2, "bought-together:de"), (3, "shop.fr")):
        folder = tmp_path / str(build)
        folder.mkdir()
        shops[prefix] = Shop(folder, dbt_folder)
        write_export(shops[prefix], ROWS, LISTED, build=build)
        publish(shops[prefix], valkey, REDIS_PREFIX=prefix)
    for build, (prefix, shop) in enumerate(shops.items(), 1):
        assert_served(shop, valkey.url(), prefix, build)
        finished = call(shop, "rollback", REDIS_URL=valkey.url(), REDIS_PREFIX=prefix)
        assert_one_line(finished, 2, "no build before")
        again = publish(shop, valkey, "--redis-prefix", prefix)
        assert "nothing to do" in again


@pytest.mark.parametrize("prefix", ["{shop}", "a b", "*", "a}b", "é", "a\nb"])
@pytest.mark.parametrize("script", ["publish", "rollback", "serve"])
def test_a_prefix_with_other_characters_is_refused(lake, prefix, script):
    finished = call(lake, script, REDIS_URL="redis://127.0.0.1:1/0", REDIS_PREFIX=prefix)
    assert_one_line(finished, 2, "REDIS_PREFIX")


def test_an_empty_prefix_is_none(lake, valkey):
    publish(lake, valkey, REDIS_PREFIX="")
    assert valkey.client().exists("bought-together:current")


def test_one_node_of_a_cluster_needs_no_option(lake, tmp_path):
    with cluster(tmp_path, nodes=1) as (node,):
        for build in (1, 2):
            write_export(lake, ROWS, LISTED, build=build)
            publish(lake, node)
        keys = node.client().keys("*")
        assert len(keys) == 7
        assert len({key_slot(name.encode()) for name in keys}) == 1
        for url in (node.url(), f"{node.url()}?cluster=true"):
            assert_served(lake, url, build=2)
            assert call(lake, "rollback", REDIS_URL=url).returncode == 0
            assert_served(lake, url, build=1)
            assert call(lake, "rollback", lake.published.name, REDIS_URL=url).returncode == 0


def test_a_cluster_of_two_nodes(lake, tmp_path):
    """Asked by the node that does not hold the keys."""
    with cluster(tmp_path, nodes=2) as nodes:
        other = nodes[key_slot(KEYS.current.encode()) < 8_192]
        moved = call(lake, "publish", REDIS_URL=other.url())
        assert_one_line(moved, 2, "add ?cluster=true to REDIS_URL")
        url = f"{other.url()}?cluster=true"
        for build in (1, 2):
            write_export(lake, ROWS, LISTED, build=build)
            publish(lake, other, REDIS_URL=url)
            assert_served(lake, url, build=build)
        assert "nothing to do" in publish(lake, other, REDIS_URL=url)
        finished = call(lake, "rollback", REDIS_URL=url)
        assert finished.returncode == 0, finished.stderr
        assert_served(lake, url, build=1)
        nodes[not nodes.index(other)].stop(signal.SIGKILL)
        away = call(
            lake, "publish", REDIS_URL=f"{nodes[not nodes.index(other)].url()}?cluster=true"
        )
        assert_one_line(away, 2, "Redis at redis://127.0.0.1")


def test_no_cluster_is_one_line(lake, valkey):
    finished = call(lake, "publish", REDIS_URL=f"{valkey.url()}?cluster=true")
    assert_one_line(finished, 2, "Redis at redis://127.0.0.1", "luster")


NOT_AN_ADDRESS = "REDIS_URL is not an address"
BAD_OPTION = "REDIS_URL has an "


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://:42/topsecret@cache:6379/0", NOT_AN_ADDRESS),
        ("redis://:42#topsecret@cache:6379/0", NOT_AN_ADDRESS),
        ("redis://:42?topsecret@cache:6379/0", NOT_AN_ADDRESS),
        ("redis://:42?db=topsecret@cache:6379/0", BAD_OPTION),
        ("redis://:42?topsecret=@cache:6379/0", BAD_OPTION),
        ("redis://:42/0/topsecret", NOT_AN_ADDRESS),
        ("redis://[topsecret@cache:6379/0", NOT_AN_ADDRESS),
        ("redis://topsecret..:1/0", NOT_AN_ADDRESS),
        ("redis://topsecret%00:1/0", NOT_AN_ADDRESS),
        ("redis://127.0.0.1:1/0?decode_responses=True", BAD_OPTION),
        ("redis://127.0.0.1:1/0?encoding=topsecret", BAD_OPTION),
        ("redis://127.0.0.1:1/0?retry_on_error=topsecret", BAD_OPTION),
        ("redis://127.0.0.1:1/0?nobody=topsecret", BAD_OPTION),
        ("redis://127.0.0.1:1/0?protocol=9", BAD_OPTION),
        ("redis://127.0.0.1:1/0?socket_timeout=-1", BAD_OPTION),
        ("redis://127.0.0.1:1/0?socket_timeout=nan", BAD_OPTION),
        ("redis://127.0.0.1:1/0?cluster=maybe", BAD_OPTION),
        ("redis://127.0.0.1:1/0?ssl_ca_certs=topsecret", BAD_OPTION),
        ("rediss://127.0.0.1:1/0?ssl_cert_reqs=topsecret", BAD_OPTION),
    ],
)
@pytest.mark.parametrize("script", ["publish", "rollback", "serve"])
def test_a_wrong_address_is_one_line_without_any_of_it(lake, script, url, told):
    finished = call(lake, script, REDIS_URL=url)
    assert_one_line(finished, 2, told)
    assert "topsecret" not in finished.stderr and "42" not in finished.stderr


@pytest.mark.parametrize(
    "options",
    [
        "protocol=2",
        "protocol=3",
        "socket_timeout=5&socket_connect_timeout=5",
        "health_check_interval=30",
        "client_name=shop",
        "socket_keepalive=yes",
        "cluster=false",
        "db=1",
    ],
)
def test_supported_options_work(lake, valkey, options):
    url = f"{valkey.url()}?{options}"
    publish(lake, valkey, REDIS_URL=url)
    assert_served(lake, url)


def test_supported_options_are_documented():
    documented = (ROOT / "docs/service.md").read_text()
    assert [name for name in redis_url.OPTIONS if f"`{name}`" not in documented] == []


@pytest.mark.parametrize("options", ["db=99", "client_name=a+b", "db=-1"])
def test_options_that_redis_refuses_are_one_line(lake, valkey, options):
    finished = call(lake, "publish", REDIS_URL=f"{valkey.url()}?{options}")
    assert_one_line(finished, 2, f"Redis at redis://127.0.0.1:{valkey.port}/0: ")


def test_a_server_that_quotes_the_password_is_not_repeated(lake):
    """As servers before Redis 6 do, and some proxies."""

    class Old(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                if line.startswith(b"*"):
                    self.wfile.write(b"-ERR unknown command 'HELLO' with args 't0p secret', \r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Old) as old:
        old.daemon_threads = True
        threading.Thread(target=old.serve_forever, daemon=True).start()
        url = f"redis://:{quote('t0p secret')}@127.0.0.1:{old.server_address[1]}/0"
        for script in ("publish", "rollback"):
            finished = call(lake, script, REDIS_URL=url)
            assert_one_line(finished, 2, "unknown command")
            assert "t0p" not in finished.stderr
        old.shutdown()


def test_a_client_of_the_service_learns_nothing_of_the_address(lake, tmp_path, caplog):
    """The log has the reason; no public answer has host, port, user, password or path."""
    valkey = Valkey(tmp_path)
    valkey.start()
    url = valkey.url().replace("//", "//default:topsecret@")
    valkey.client(decode_responses=False).acl_setuser(
        "default", enabled=True, nopass=True, keys=["*"], commands=["+@all"]
    )
    publish(lake, valkey, REDIS_URL=url)
    with serving(RedisBackend(url, KEYS.prefix)) as client:
        valkey.stop(signal.SIGKILL)
        for path in (path_of("011"), "/v1/recommendations?product_id=011", "/readyz", "/metrics"):
            response = client.get(path)
            assert response.status_code in (503, 200)
            for part in ("topsecret", "default:", "127.0.0.1", str(valkey.port), "redis://"):
                assert part not in response.text + str(response.headers)
        assert client.get(path_of("011")).json() == {"detail": "Redis is unavailable"}
        page = client.get("/product?id=011")
        assert page.status_code == 503 and str(valkey.port) not in page.text
    with serving(RedisBackend(url, KEYS.prefix)) as client:
        assert client.get("/readyz").status_code == 503
        assert str(valkey.port) not in client.get("/readyz").text
    (line,) = caplog.messages
    assert f"127.0.0.1:{valkey.port}" in line and "topsecret" not in line


def test_an_address_is_shown_without_user_password_and_options():
    error = redis_url.redis.ConnectionError("Connection refused")
    url = "rediss://user:pass%20word@host:1/0?client_name=x&ssl_password=abc"
    assert redis_url.explain(url, error) == (
        "Redis at rediss://host:1/0: cannot connect (Connection refused)"
    )


def test_connections_that_redis_closed_meanwhile_cost_no_request(lake, valkey):
    publish(lake, valkey)
    with serving(RedisBackend(valkey.url(), KEYS.prefix)) as client:
        for _ in range(3):
            assert client.get(path_of("011")).status_code == 200
            for connection in valkey.client().client_list():
                if connection["lib-name"]:
                    valkey.client().client_kill_filter(_id=connection["id"])
