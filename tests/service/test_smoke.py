"""The smoke check: it passes on what the lake holds, and can fail on anything else."""

from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from bought_together.errors import Refused
from bought_together.service import smoke
from tests.support.exports import LISTED, ROWS, write_export
from tests.support.processes import assert_one_line, free_port
from tests.support.service import KEYS, call, publish, running


def check(shop, service, *arguments, **settings):
    return call(
        shop, "smoke", *arguments, SERVICE_URL=f"http://127.0.0.1:{service.port}/", **settings
    )


def test_a_new_build_is_waited_for(shop):
    write_export(shop, ROWS, LISTED)
    with running(shop) as service:
        service.wait_for(200)
        write_export(shop, ROWS, LISTED, build=2)
        finished = check(shop, service)
    assert finished.returncode == 0, finished.stderr
    products = len({row[0] for row in ROWS})
    assert finished.stdout.split(":")[0].startswith("served     20260102T")
    assert f": {products} products" in finished.stdout


def test_the_age_of_the_data_is_told_and_may_be_limited(shop):
    write_export(shop, ROWS, LISTED, newest=str(datetime.now(UTC) - timedelta(hours=5.5))[:19])
    with running(shop) as service:
        service.wait_for(200)
        assert check(shop, service, "--max-data-age", 6).stdout.endswith(", 5 hours old\n")
        refused = check(shop, service, "--max-data-age", 5)
        assert_one_line(refused, 1, "5 hours old, more than 5")
        write_export(shop, ROWS, LISTED, build=2)
        dateless = check(shop, service, "--max-data-age", 5)
        assert (dateless.returncode, "data without dates" in dateless.stdout) == (0, True)


def test_a_service_that_stays_on_another_version_is_told(shop, valkey):
    write_export(shop, ROWS, LISTED)
    publish(shop, valkey)
    write_export(shop, ROWS, LISTED, build=2)
    with running(shop, REDIS_URL=valkey.url()) as service:
        service.wait_for(200)
        assert_one_line(check(shop, service, "--wait", 0), 2, "serves version 20260101T")


def test_an_answer_that_differs_is_told(shop, valkey):
    write_export(shop, ROWS, LISTED)
    publish(shop, valkey)
    client = valkey.client()
    answers = KEYS.part(client.get(KEYS.current), "answers")
    product_id = sorted(client.hkeys(answers))[-1]
    answer = client.hget(answers, product_id)
    client.hset(answers, product_id, answer.replace('"copurchase_count":', '"copurchase_count":1'))
    with running(shop, REDIS_URL=valkey.url()) as service:
        service.wait_for(200)
        assert_one_line(check(shop, service), 1, f"differ on product {product_id}: served")
        one = check(shop, service, "--products", 1)
        assert (one.returncode, ": 1 products" in one.stdout) == (0, True), "the first one is right"


@pytest.mark.parametrize(
    "url, told",
    [
        ("http://127.0.0.1:1", "does not answer: [Errno 111] Connection refused"),
        ("127.0.0.1:8000", "is not an address like http://host:8000"),
        ("file:///etc/passwd", "is not an address like http://host:8000"),
    ],
)
def test_no_service_is_told(shop, url, told):
    write_export(shop, ROWS, LISTED)
    assert_one_line(call(shop, "smoke", "--wait", 0, SERVICE_URL=url), 2, told)


def test_another_program_is_no_service(shop):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_):
            pass

    write_export(shop, ROWS, LISTED)
    with HTTPServer(("127.0.0.1", free_port()), Other) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_port}"
        assert_one_line(call(shop, "smoke", "--wait", 0, SERVICE_URL=url), 2, "serves version None")
        other.shutdown()


def test_no_lake_is_told(shop):
    assert_one_line(call(shop, "smoke"), 2, "no recommendations at")


def test_a_lake_without_recommendations_is_asked_for_all_the_same(shop):
    write_export(shop, [], LISTED)
    away = call(shop, "smoke", "--wait", 0, SERVICE_URL="http://127.0.0.1:1")
    assert_one_line(away, 2, "does not answer")
    with running(shop) as service:
        assert check(shop, service).returncode == 0


def test_an_answer_that_is_missing_is_told(monkeypatch):
    expected = smoke.answer("1", None, [])
    monkeypatch.setattr(smoke, "ask", lambda *_: [])
    with pytest.raises(Refused, match="differ on product 1"):
        smoke.compare("http://shop", "version", [expected], 0)
