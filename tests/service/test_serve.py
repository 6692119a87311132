"""The service as a program: addresses as clients send them, new builds, Redis that comes and goes.

Redis is valkey-server, from a package, on a port of the test's own.
"""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest
import trustme

from bought_together.service.backends import RedisBackend
from bought_together.service.refreshing import refresh
from tests.support.exports import LISTED, ROWS, write_damaged_export, write_export
from tests.support.processes import PATIENCE, free_port, wait_until
from tests.support.service import KEYS, Service, call, publish, running, serving
from tests.support.shop import Shop
from tests.support.valkey import Valkey

# What an id may hold: anything but control characters, with no white space around it.
ODD_IDS = [
    "a/b",
    "/",
    "//x",
    ".",
    "..",
    "../../etc/passwd",
    "%",
    "%2F",
    "%00",
    "a b",
    "a+b",
    'it\'s "7"',
    "<b>&amp;",
    "?limit=1",
    "#1",
    "a;b,c",
    "\\",
    "crème",
    "🧀",
    "x" * 10_000,
    "recommendations",
    "x/recommendations",
]


@pytest.fixture
def lake(shop: Shop) -> Shop:
    write_export(shop, ROWS, LISTED)
    return shop


def test_odd_ids_are_ids_like_any_other(shop, valkey):
    """From memory and from Redis; with and without options, and among others."""
    rows = [(product_id, 1, "011", "Milk", "M", 2) for product_id in sorted(ODD_IDS)]
    write_export(shop, rows, [("011", "M", "Milk")])
    publish(shop, valkey)
    for settings in ({}, {"REDIS_URL": valkey.url()}):
        with running(shop, **settings) as service:
            service.wait_for(200)
            for product_id in ODD_IDS:
                one = service.recommendations(product_id)
                assert one["product_id"] == product_id
                assert [row["product_id"] for row in one["recommendations"]] == ["011"]
                assert service.recommendations(product_id, "?limit=1") == one
                query = f"product_id=nobody&product_id={quote(product_id, safe='')}"
                assert service.get(f"/v1/recommendations?{query}")[2]["products"][1] == one


@pytest.mark.parametrize(
    "product_id", ["%00", "a%0Ab", "%FF%FE", "%ED%A0%80", "%E2%80%AE", "%", "%zz", "", "x" * 60_000]
)
def test_what_no_id_can_be_is_answered_or_refused(lake, service, product_id):
    """Unknown, so that there is nothing to recommend; or, where the server takes it for no request
    at all, 4xx."""
    status, _, content = service.get(f"/v1/products/{product_id}/recommendations")
    assert (status == 200 and content["recommendations"] == []) or 400 <= status < 500


@pytest.fixture(scope="module")
def service(tmp_path_factory, dbt_folder) -> Iterator[Service]:
    """One service for all tests that only ask."""
    shop = Shop(tmp_path_factory.mktemp("served"), dbt_folder)
    write_export(shop, ROWS, LISTED)
    with running(shop) as service:
        service.wait_for(200)
        yield service


def test_ten_thousand_products_are_refused_in_json(service):
    path = "/v1/recommendations?" + "&".join(["product_id=011"] * 10_000)
    status, _, content = service.get(path)
    assert 400 <= status < 500
    assert content["detail"]


def test_servers_say_nothing_of_themselves(service):
    assert "server" not in service.get("/healthz")[1]


def test_new_builds_are_taken_up_and_damaged_ones_left(lake):
    with running(lake) as service:
        service.wait_for_version("20260101T")
        write_export(lake, ROWS, LISTED, build=2)
        service.wait_for_version("20260102T")
        write_damaged_export(lake, "half", build=3)
        wait_until(lambda: service.lines("ERROR"), "a line about the damaged export")
        assert service.version().startswith("20260102T")
        write_export(lake, ROWS, LISTED, build=4)
        service.wait_for_version("20260104T")
        assert len(service.lines("ERROR")) == 1


def test_started_before_the_first_build_it_waits_for_it(shop):
    with running(shop) as service:
        service.wait_for(503)
        assert "make build" in wait_until(lambda: service.lines("ERROR"), "a line")[0]
        shop.lake.mkdir()
        write_export(shop, ROWS, LISTED)
        service.wait_for(200)


def test_several_services_take_up_what_is_published_and_rolled_back(lake, valkey):
    publish(lake, valkey)
    url = valkey.url()
    with running(lake, REDIS_URL=url) as one, running(lake, REDIS_URL=url) as other:
        for service in (one, other):
            service.wait_for_version("20260101T")
            assert len(service.recommendations("011")["recommendations"]) == 2
        write_export(lake, ROWS[:1], LISTED, build=2)
        publish(lake, valkey)
        for service in (one, other):
            service.wait_for_version("20260102T")
            assert len(service.recommendations("011")["recommendations"]) == 1
        assert call(lake, "rollback", REDIS_URL=url).returncode == 0
        for service in (one, other):
            service.wait_for_version("20260101T")
            assert len(service.recommendations("011")["recommendations"]) == 2


def test_redis_that_goes_away_is_503_until_it_is_back(lake, valkey):
    publish(lake, valkey)
    with running(lake, REDIS_URL=valkey.url()) as service:
        service.wait_for(200)
        path = "/v1/products/011/recommendations"
        valkey.stop()
        for away in (path, f"{path}?limit=1", "/v1/recommendations?product_id=011", "/readyz"):
            status, headers, content = service.get(away)
            assert (status, headers["retry-after"]) == (503, "2")
            assert content["detail"] == "Redis is unavailable"
        assert service.status("/healthz") == 200
        wait_until(lambda: service.lines("ERROR"), "a line about Redis")
        valkey.start()
        service.wait_for(200)
        assert len(service.get(path)[2]["recommendations"]) == 2
        wait_until(lambda: len(service.lines("INFO    serving")) == 2, "a line that it is back")
        assert len(service.lines("ERROR")) == 1


def test_redis_that_hangs_is_503_and_not_for_ever(lake, valkey):
    publish(lake, valkey)
    with running(lake, REDIS_URL=valkey.url()) as service:
        service.wait_for(200)
        valkey.process.send_signal(signal.SIGSTOP)
        status, _, content = service.get("/v1/products/011/recommendations")
        assert (status, content["detail"]) == (503, "Redis is unavailable")
        valkey.process.send_signal(signal.SIGCONT)
        service.wait_for(200)
        service.wait_for(200, "/v1/products/011/recommendations")


def test_redis_that_lost_its_data_is_503_not_an_empty_answer(lake, valkey):
    publish(lake, valkey)
    with running(lake, REDIS_URL=valkey.url()) as service:
        service.wait_for(200)
        valkey.client().flushall()
        path = "/v1/products/011/recommendations"
        for lost in (path, "/readyz"):
            assert service.status(lost) == 503
        assert service.get("/v1/products/nobody/recommendations")[2]["recommendations"] == []
        publish(lake, valkey)
        service.wait_for(200)
        assert service.status(path) == 200


@pytest.mark.parametrize("part", ["manifest", "answers", "products"])
def test_half_published_data_are_not_taken_up(lake, valkey, caplog, part):
    publish(lake, valkey)
    backend = RedisBackend(valkey.url(), KEYS.prefix)
    with serving(backend) as client:
        redis = valkey.client()
        whole = redis.get("bought-together:current")
        for name in ("manifest", "answers", "products"):
            key = f"bought-together:20260102T030000Z-00000000.0:{name}"
            redis.copy(f"bought-together:{whole}:{name}", key)
        if part == "answers":
            redis.hdel(f"bought-together:20260102T030000Z-00000000.0:{part}", "011")
        else:
            redis.delete(f"bought-together:20260102T030000Z-00000000.0:{part}")
        redis.set("bought-together:current", "20260102T030000Z-00000000.0")
        client.portal.call(refresh, backend, None)
        (line,) = caplog.messages
        assert "20260102T030000Z-00000000 is incomplete" in line
        assert "the version is still 20260101T" in line
        found = client.get("/v1/products/011/recommendations").json()
        assert len(found["recommendations"]) == 2


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://127.0.0.1:{port}/0", "user or password refused"),
        ("redis://:s3cr3t-but-wrong@127.0.0.1:{port}/0", "user or password refused"),
        ("redis://user:s3cr3t@127.0.0.1:1/0", "cannot connect"),
        ("rediss://:s3cr3t@127.0.0.1:{port}/0?socket_timeout=1", "no answer in time"),
    ],
)
def test_redis_that_refuses_is_one_line_without_the_password(lake, tmp_path, caplog, url, told):
    valkey = Valkey(tmp_path, "--requirepass", "s3cr3t")
    valkey.start()
    try:
        address = url.format(port=valkey.port)
        finished = call(lake, "publish", REDIS_URL=address)
        assert finished.returncode == 2
        assert finished.stderr.count("\n") == 1
        assert told in finished.stderr and "127.0.0.1" in finished.stderr
        with serving(RedisBackend(address, KEYS.prefix)) as client:
            (line,) = caplog.messages
            assert told in line and "127.0.0.1" in line
            response = client.get("/v1/products/011/recommendations")
        assert response.status_code == 503
        for text in (finished.stderr, finished.stdout, line, response.text):
            assert "s3cr3t" not in text
    finally:
        valkey.stop(signal.SIGKILL)


@pytest.mark.parametrize(
    "url", ["s3cr3t", "http://s3cr3t@h/0", "redis://:s3/cr3t@h:6379/0", "redis://:s3#cr3t@h:x/0"]
)
@pytest.mark.parametrize("script", ["publish", "serve"])
def test_no_address_is_one_line_without_the_password(lake, script, url):
    finished = lake.run(script, REDIS_URL=url, PORT=free_port())
    assert (finished.returncode, finished.stderr.count("\n")) == (2, 1)
    assert finished.stderr.startswith("error: REDIS_URL is not an address")
    assert not re.search("s3|cr3t", finished.stderr)


def test_password_and_tls_are_supported(lake, tmp_path):
    """A password with every special character, percent-encoded, over TLS that is verified.

    valkey-server of the package knows no TLS: a proxy of the test's own ends it.
    """
    password = "p@ss/w:rd#?%&é"
    valkey = Valkey(tmp_path, "--requirepass", password)
    valkey.start()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    try:
        with tls_proxy(authority.issue_cert("127.0.0.1"), valkey.port) as port:
            url = f"rediss://:{quote(password, safe='')}@127.0.0.1:{port}/0"
            trusted = f"{url}?ssl_ca_certs={quote(str(tmp_path / 'ca.pem'))}"
            refused = call(lake, "publish", REDIS_URL=url)
            assert (refused.returncode, "certificate" in refused.stderr) == (2, True)
            assert call(lake, "publish", REDIS_URL=trusted).returncode == 0
            with running(lake, REDIS_URL=trusted) as service:
                service.wait_for(200)
                assert len(service.recommendations("011")["recommendations"]) == 2
    finally:
        valkey.stop(signal.SIGKILL)


@contextmanager
def tls_proxy(certificate: trustme.LeafCert, port: int) -> Iterator[int]:
    """End TLS in a thread and hand the bytes on to `port`; yields the port to connect to."""
    import asyncio
    import ssl
    import threading

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(handle, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE)
