"""What a client gets for bytes that no application sees, and under a path that a proxy strips.

All tests ask one service, started with ROOT_PATH; a proxy that strips the path sends it what they
send.
"""

import re
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from bought_together.service.http_protocol import bind
from tests.support.exports import LISTED, ROWS, write_export
from tests.support.processes import PATIENCE, assert_one_line
from tests.support.service import Service, call, running
from tests.support.shop import Shop
from tests.support.valkey import Valkey

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: shop\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    shop = Shop(tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("dbt"))
    write_export(shop, ROWS, LISTED)
    with running(shop, ROOT_PATH="/shop/") as service:
        service.wait_for(200)
        yield service


def ask(service: Service, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes as they are, and read until the service closes the connection."""
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as connection:
        received = b""
        with suppress(ConnectionError):  # it may be refused before it is complete
            connection.sendall(request)
        with suppress(ConnectionError):
            while data := connection.recv(65_536):
                received += data
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01 hello over TLS\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: shop\r\n\r\n", 400),
        (b"CONNECT shop:443 HTTP/1.1\r\nHost: shop\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: x\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (HEALTHZ + b"X: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (HEALTHZ + b"X: a\r\n" * 20_000 + b"\r\n", 431),
        (HEALTHZ + b"X: " + b"a" * 10_000_000, 431),
        (b"GET /healthz?" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: shop\r\n\r\n", 431),
        (HEALTHZ + b"X: " + b"a" * 60_000 + b"\r\nConnection: close\r\n\r\n", 200),
        (b"GET /nowhere HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n", 404),
        (b"DELETE /docs HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n", 405),
        (b"GET /v1/products?limit=x HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n", 422),
    ],
)
def test_every_answer_is_json_with_the_security_headers(service, request_bytes, status):
    before = len(service.lines())
    found, headers, body = ask(service, request_bytes)
    assert (found, headers["content-type"], headers["connection"]) == (
        status,
        "application/json",
        "close",
    )
    assert body.startswith(b"{")
    assert {name: headers[name] for name in SECURITY_HEADERS} == {
        name: value.lower() for name, value in SECURITY_HEADERS.items()
    }
    assert len(service.lines()) == before, "anyone could fill the log"


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0"])
def test_a_request_to_change_the_protocol_is_answered_in_http_1_1(service, protocol):
    """The connection closes, so that the client's next request is on a new one."""
    before = len(service.lines())
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n"
    status, headers, body = ask(service, HEALTHZ + upgrade + b"Upgrade: " + protocol + b"\r\n\r\n")
    assert (status, headers["connection"], body) == (200, "close", b'{"status":"alive"}')
    assert len(service.lines()) == before


def test_metrics_count_invalid_requests(service):
    ask(service, b"nonsense\r\n\r\n")
    metrics = service.get("/metrics")[2].decode()
    assert re.search(r'requests_total{route="invalid",status="400"} [1-9]', metrics)


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/docs/", "/shop/docs"),
        ("/product/?id=%C3%A9%20b", "/shop/product?id=%C3%A9%20b"),
        ("/v1/recommendations/?product_id=1", "/shop/v1/recommendations?product_id=1"),
        (
            "/v1/products/a%252Fb%3F/recommendations/",
            "/shop/v1/products/a%252Fb%3F/recommendations",
        ),
        ("http://evil.example/docs/", "/shop/docs"),
        ("/docs%2F", "/shop/docs"),
    ],
)
@pytest.mark.parametrize("host", ["evil.example", "shop:80", "a b<>", ""])
def test_a_redirect_takes_no_word_of_the_host_header(service, path, location, host):
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    status, headers, _ = ask(service, request.encode())
    assert (status, headers["location"]) == (307, location.lower())


@pytest.mark.parametrize("path", ["//evil.example/", "//evil.example/docs/", "/%2F/evil.example/"])
def test_nothing_redirects_to_another_host(service, path):
    request = f"GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"
    status, headers, _ = ask(service, request.encode())
    assert (status, "location" in headers) == (404, False)


def test_every_address_in_a_page_is_under_the_path_and_answers(service):
    """Followed as a search engine does it, from page to page: not from a page with a basket."""
    seen: set[str] = set()
    to_visit = ["/shop/", "/shop/?query=milk", "/shop/product?id=nobody"]
    while to_visit:
        address = to_visit.pop()
        assert address.startswith("/shop/"), address
        if address in seen:
            continue
        seen.add(address)
        status, headers, body = service.get(address.removeprefix("/shop"))
        assert status == (404 if "nobody" in address else 200), address
        if headers["content-type"].startswith("text/html"):
            page = body.decode()
            found = re.findall(r'(?:href|src|action)="([^"]+)"', page)
            found = [other for other in found if not other.startswith("#")]
            assert [other for other in found if not other.startswith("/shop/")] == [], address
            to_visit += [] if "nofollow" in page.partition("<body>")[0] else found
    assert {"/shop/docs", "/shop/static/suggest.js", "/shop/product?id=011"} <= seen
    assert {"/shop/basket", "/shop/basket?basket=011"} <= seen


def test_the_api_and_its_description_are_under_the_path(service):
    openapi = service.get("/openapi.json", X_Forwarded_Prefix="/evil")[2]
    assert openapi["servers"] == [{"url": "/shop"}]
    assert service.recommendations("011") == service.recommendations("011", "?limit=1000")
    assert len(service.recommendations("011")["recommendations"]) == 2
    page = service.get("/", X_Forwarded_Prefix="/evil")[2].decode()
    assert "/evil" not in page and 'action="/shop/"' in page
    metrics = service.get("/metrics")[2].decode()
    assert 'route="/static"' in metrics and "/shop" not in metrics
    assert 'route="/v1/products/{product_id:path}/recommendations",status="200"' in metrics


def test_the_scripts_name_no_address_of_their_own(service):
    for file in ("suggest.js", "docs.js"):
        script = service.get(f"/static/{file}")[2].decode()
        assert not re.search(r"""["'`]/(?!/)""", script), file


@pytest.mark.parametrize("path", ["shop", "/a b", "//evil.example", "/../x", "/.", "/é", "/a?b"])
def test_what_is_no_path_is_refused(shop, path):
    finished = call(shop, "serve", PORT=0, ROOT_PATH=path)
    assert_one_line(finished, 2, "ROOT_PATH is not a path like /shop")


def test_a_port_in_use_is_one_line(shop, service):
    for settings in ({}, {"REDIS_URL": Valkey(shop.folder).url()}):
        finished = call(shop, "serve", PORT=service.port, **settings)
        assert_one_line(finished, 2, service.port, "Address already in use")


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("192.0.2.1", "Cannot assign requested address"),
        ("no-such-host.invalid", "HOST no-such-host.invalid"),
        ("a..b", "HOST a..b"),
        ("1.2.3.4.5", "HOST 1.2.3.4.5"),
        ("127.0.0.1:8000", "HOST 127.0.0.1:8000"),
    ],
)
def test_a_host_that_is_not_of_this_machine_is_one_line(shop, host, told):
    assert_one_line(call(shop, "serve", PORT=0, HOST=host), 2, "cannot listen on", told)


def test_an_address_that_this_machine_lacks_is_left_out_beside_another(monkeypatch):
    """As ::1 of localhost, where there is no IPv6."""
    found = [(socket.AF_INET, 1, 6, "", (host, 0)) for host in ("192.0.2.1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    (one,) = bind("localhost", 0)
    assert one.getsockname()[0] == "127.0.0.1"
    one.close()


@pytest.mark.parametrize("port", ["x", "70000", "-1", "80.5"])
def test_a_port_that_is_none_is_refused(shop, port):
    finished = call(shop, "serve", PORT=port)
    assert finished.returncode == 2
    assert "PORT" in finished.stderr.splitlines()[-1]
    assert "Traceback" not in finished.stderr
