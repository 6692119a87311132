"""The service answers every request with what was published, or says in JSON why it does not.

The exports are written by hand, so that a test owns every id, name and count in them. Requests
come in as an HTTP server would hand them over, without a network.
"""

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from starlette.testclient import TestClient

from bought_together.errors import CannotRun
from bought_together.export.answers import CATALOGUE, encode_answers
from bought_together.export.lookup import names_of, recommendations_of
from bought_together.export.read import answer, read_export
from bought_together.service.backends import LakeBackend, Unavailable
from bought_together.service.catalogue import Catalogue
from bought_together.service.refreshing import refresh
from bought_together.service.security_headers import SECURITY_HEADERS
from tests.support import ROOT
from tests.support.exports import CLEAR_PAIR, LISTED, ROWS, write_damaged_export, write_export
from tests.support.service import path_of, serving
from tests.support.shop import Shop


@pytest.fixture
def client(shop: Shop) -> Iterator[TestClient]:
    write_export(shop, ROWS, LISTED)
    with serving(LakeBackend(str(shop.lake))) as client:
        yield client


def ranked(answer: dict[str, Any]) -> list[list[Any]]:
    return [list(row.values()) for row in answer["recommendations"]]


def test_answer_has_the_fields_of_the_lookup(client):
    assert client.get(path_of("011")).json() == {
        "product_id": "011",
        "product_name": "Milk",
        "recommendations": [
            {
                "rank": 1,
                "product_id": "0012",
                "product_name": "Tea, black",
                "category_code": "T",
                "copurchase_count": 40,
                **CLEAR_PAIR,
            },
            {
                "rank": 2,
                "product_id": "12",
                "product_name": "Crème brûlée",
                "category_code": "",
                "copurchase_count": 7,
                **CLEAR_PAIR,
            },
        ],
    }


@pytest.mark.parametrize(
    ("product_id", "name", "count"),
    [("11", "Milk, skimmed", 1), ("lonely", "Truffles", 0), ("unlisted", None, 1), ("?", None, 0)],
)
def test_every_kind_of_product_is_answered(client, product_id, name, count):
    """In the list or not, bought with another or not, known or not: always 200."""
    response = client.get(path_of(product_id))
    answer = response.json()
    assert (response.status_code, answer["product_id"]) == (200, product_id)
    assert (answer["product_name"], len(answer["recommendations"])) == (name, count)


def test_limit_cuts_the_list(client):
    assert ranked(client.get(path_of("011"), params={"limit": 1}).json()) == [
        [1, "0012", "Tea, black", "T", 40, *CLEAR_PAIR.values()]
    ]
    assert client.get(path_of("011"), params={"limit": 1000}).json() == (
        client.get(path_of("011")).json()
    )


@pytest.mark.parametrize("limit", ["0", "-1", "1000000000", "1001", "five", "", "1.5", "\u0661"])
def test_bad_limit_is_refused_in_json(client, limit):
    for path in (path_of("011"), "/v1/recommendations?product_id=011", "/v1/products"):
        response = client.get(path, params={"product_id": "011", "limit": limit})
        assert response.status_code == 422
        assert "limit" in response.json()["detail"][0]["loc"]


def test_many_products_in_the_order_asked_for_each_once(client):
    asked = ["11", "nobody", "011", "11"]
    response = client.get("/v1/recommendations", params={"product_id": asked, "limit": 1})
    found = response.json()["products"]
    assert [answer["product_id"] for answer in found] == ["11", "nobody", "011"]
    assert [len(answer["recommendations"]) for answer in found] == [1, 0, 1]


@pytest.mark.parametrize("count", [0, 51])
def test_too_many_products_or_none_are_refused_in_json(client, count):
    response = client.get("/v1/recommendations", params={"product_id": ["011"] * count})
    assert response.status_code == 422
    assert response.json()["detail"]


def test_fifty_products_are_answered(client):
    asked = [str(number) for number in range(50)]
    found = client.get("/v1/recommendations", params={"product_id": asked}).json()["products"]
    assert [answer["product_id"] for answer in found] == asked


def search(client: TestClient, query: str, **options: int) -> list[str]:
    found = client.get("/v1/products", params={"query": query, **options}).json()["products"]
    return [product["product_id"] for product in found]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("011", ["011"]),
        ("0", ["011", "0012"]),  # ids that begin with it; the higher count first
        ("milk", ["011", "11"]),  # the whole name first
        ("MILK skim", ["11"]),
        ("skimmed milk", ["11"]),
        ("creme BRULEE", ["12"]),
        ("brûl", ["12"]),
        ("l", ["lonely", "11", "011", "unlisted", "0012", "12"]),
        ("unlisted", ["unlisted"]),
        ("nothing like it", []),
        ("%", []),
        (".*", []),
    ],
)
def test_search_finds_words_in_names_and_ids(client, query, found):
    assert search(client, query) == found


def catalogue_of(*products: tuple[str, str, int]) -> Catalogue:
    rows = [(product_id, name, None, count, 1) for product_id, name, count in products]
    columns = [
        pa.array(column, kind.type)
        for column, kind in zip(zip(*rows, strict=True), CATALOGUE, strict=True)
    ]
    return Catalogue(pa.table(columns, schema=CATALOGUE))


@pytest.mark.parametrize("query", ["mango", "MANGO", " Mángo "])
def test_a_whole_name_is_first_then_the_names_that_begin_with_it(query):
    found = catalogue_of(
        ("a", "Mango", 1), ("b", "Mango Chunks", 2), ("c", "Dried Mango", 9)
    ).search(query, 10)
    assert [row["product_id"] for row in found] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "query", ["\u0301", "\u0301 \u0308", "\u00b4", "\u20dd", "\u093e", "\ufe0f", " \u0301\u3000"]
)
def test_combining_marks_alone_find_nothing(query):
    """Nonspacing, spacing and enclosing ones, and an accent that decomposes to one."""
    products = (("a", "Mango", 1), ("b", "\u0906\u092e \u093e \u20dd", 1))
    assert catalogue_of(*products).search(query, 10) == []


def test_every_word_of_a_query_counts():
    catalogue = catalogue_of(("a", "a b c d e f g h", 1), ("b", "a b c d e f g", 9))
    assert [row["product_id"] for row in catalogue.search("a b c d e f g h", 10)] == ["a"]


def test_search_without_a_query_gives_the_highest_counts(client):
    assert search(client, "", limit=2) == ["11", "011"]
    assert search(client, "  ") == ["11", "011", "unlisted", "0012", "12", "lonely"]


def test_search_names_its_products(client):
    response = client.get("/v1/products", params={"query": "unlisted"})
    assert response.json()["products"] == [
        {"product_id": "unlisted", "product_name": None, "category_code": None}
    ]


@pytest.mark.parametrize(
    "path", [path_of("011"), path_of("011") + "?limit=1", "/v1/recommendations?product_id=011"]
)
def test_clients_that_hold_the_answer_get_304(client, path):
    first = client.get(path)
    etag = first.headers["etag"]
    assert "max-age" in first.headers["cache-control"]
    for held in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = client.get(path, headers={"If-None-Match": held})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
    for other in ('"other"', etag.strip('"'), ""):
        assert client.get(path, headers={"If-None-Match": other}).status_code == 200


def test_tags_differ_where_the_answers_do_and_outlast_a_build_that_changes_nothing(shop):
    tags = []
    for build, count in ((1, 40), (2, 40), (3, 41)):
        write_export(shop, [("011", 1, "12", "Tea", "T", count)], LISTED, build)
        with serving(LakeBackend(str(shop.lake))) as client:
            response = client.get(path_of("011"))
        tags.append(response.headers["etag"])
        assert response.headers["x-data-version"].startswith(f"202601{build:02d}T030000Z-")
    assert tags[0] == tags[1] != tags[2]


def test_head_is_get_without_a_body(client):
    for path in (path_of("011"), "/v1/products", "/healthz", "/readyz", "/metrics"):
        assert client.head(path).status_code == 200
        assert client.head(path).headers["content-type"] == client.get(path).headers["content-type"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_written(client, method):
    assert client.request(method, path_of("011")).status_code == 405


def test_unknown_paths_are_404_in_json(client):
    for path in ("/v1", "/v1/products/011", "/v1/products/recommendations", "/v2/products"):
        response = client.get(path)
        assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})


def test_every_answer_has_the_security_headers(client):
    for path in (path_of("011"), "/v1/products?limit=0", "/nowhere", "/healthz", "/openapi.json"):
        assert_secure(client.get(path))


def test_no_other_site_may_frame_a_page(client):
    assert client.get("/healthz").headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def assert_secure(response: Any) -> None:
    for name, value in SECURITY_HEADERS:
        assert response.headers[name.decode()] == value.decode()


def test_without_data_it_lives_and_is_not_ready(shop):
    with serving(LakeBackend(str(shop.lake))) as client:
        assert client.get("/healthz").status_code == 200
        for path in ("/readyz", path_of("011"), path_of("011") + "?limit=1", "/v1/products"):
            response = client.get(path)
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) > 0
            assert response.headers["cache-control"] == "no-store"
            assert "published" in response.json()["detail"]


def test_ready_with_the_version_its_age_and_size(client):
    ready = client.get("/readyz").json()
    assert ready["version"].startswith("20260101T030000Z-")
    assert ready["built_at"] == "2026-01-01T03:00:00+00:00"
    assert ready["age_seconds"] > 0
    assert ready["newest_ordered_at"] is ready["data_age_seconds"] is None
    assert ready["products"] == 6


def test_the_alarm_on_old_data_reads_their_age_from_the_log(shop, caplog):
    """CloudWatch compares the fields of a line; `...` stands for any number of them."""
    caplog.set_level("INFO")
    write_export(shop, ROWS, LISTED, newest=str(datetime.now(UTC) - timedelta(hours=5.5)))
    with serving(LakeBackend(str(shop.lake))):
        pass
    (line,) = [line for line in caplog.messages if line.startswith("serving")]
    template = (ROOT / "deploy/cloudformation/service.yaml").read_text()
    (pattern,) = re.findall(r"FilterPattern: '\[\.\.\., (.+)\]'", template)
    names = pattern.split(", ")
    fields = dict(zip(names, line.split()[-len(names) :], strict=True))
    assert fields["hours"] == "5"
    for name, value in fields.items():
        assert " = " not in name or name.split(" = ")[1] == value


# As DuckDB writes a timestamp in JSON.
@pytest.mark.parametrize(
    "written", ["2025-12-31 20:15:30", "2025-12-31 20:15:30.25", "2025-12-31T21:15:30+01:00"]
)
def test_the_age_of_the_data_is_told_beside_the_age_of_the_build(shop, caplog, written):
    caplog.set_level("INFO")
    write_export(shop, ROWS, LISTED, newest=written)
    with serving(LakeBackend(str(shop.lake))) as client:
        ready = client.get("/readyz").json()
        metrics = client.get("/metrics").text
    assert ready["newest_ordered_at"].startswith("2025-12-31T20:15:30")
    assert ready["data_age_seconds"] - ready["age_seconds"] in (24_269, 24_270)  # 6 h 44 min 30 s
    found = dict(re.findall(r"^bought_together_(build|data)_age_seconds (.+)$", metrics, re.M))
    assert float(found["data"]) - float(found["build"]) == pytest.approx(24_270, abs=1)
    (line,) = [line for line in caplog.messages if line.startswith("serving")]
    hours = ready["data_age_seconds"] // 3600
    assert line.endswith(f", newest data 2025-12-31 20:15:30 UTC, {hours} hours old")


@pytest.mark.parametrize("written", [None, "", "infinity", "20000-01-01 00:00:00"])
def test_data_without_a_date_have_no_age(shop, caplog, written):
    caplog.set_level("INFO")
    write_export(shop, ROWS, LISTED, newest=written)
    with serving(LakeBackend(str(shop.lake))) as client:
        assert client.get("/readyz").json()["data_age_seconds"] is None
        assert "\nbought_together_data_age_seconds" not in client.get("/metrics").text
        assert "\nbought_together_build_age_seconds" in client.get("/metrics").text
    (line,) = [line for line in caplog.messages if line.startswith("serving")]
    assert line.endswith(", data without dates")


def test_table_with_no_rows_is_served(shop):
    write_export(shop, [], [])
    with serving(LakeBackend(str(shop.lake))) as client:
        assert client.get("/readyz").json()["products"] == 0
        assert client.get(path_of("011")).json()["recommendations"] == []
        assert search(client, "milk") == search(client, "") == []


def test_metrics_count_requests_by_route_and_tell_the_version(client):
    for _ in range(3):
        client.get(path_of("011"))
    client.get(path_of("011"), params={"limit": "x"})
    client.get("/nowhere")
    text = client.get("/metrics").text
    route = "/v1/products/{product_id:path}/recommendations"
    assert f'bought_together_requests_total{{route="{route}",status="200"}} 3.0' in text
    assert f'bought_together_requests_total{{route="{route}",status="422"}} 1.0' in text
    assert 'bought_together_requests_total{route="unmatched",status="404"} 1.0' in text
    assert f'bought_together_request_seconds_count{{route="{route}"}} 4.0' in text
    assert 'bought_together_version_info{version="20260101T030000Z-' in text
    assert "bought_together_data_age_seconds" in text
    assert "bought_together_products 6.0" in text


def test_errors_of_ours_are_500_without_a_word_of_them(client, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("bought_together.service.catalogue.Catalogue.search", broken)
    response = client.get("/v1/products")
    assert (response.status_code, response.json()) == (500, {"detail": "internal error"})
    assert_secure(response)


def test_a_new_build_is_taken_up_whole(shop, client):
    backend = client.app.state.backend
    before = backend.current
    write_export(shop, [("011", 1, "12", "New", "N", 1)], LISTED, build=2)
    assert client.get("/readyz").json()["version"] == before.name
    assert asyncio.run(refresh(backend, None)) is None
    assert client.get("/readyz").json()["version"] == backend.current.name != before.name
    assert ranked(client.get(path_of("011")).json()) == [
        [1, "12", "New", "N", 1, *CLEAR_PAIR.values()]
    ]


def test_an_unchanged_export_is_not_read_again(shop, client):
    backend = client.app.state.backend
    before = backend.current
    assert asyncio.run(refresh(backend, None)) is None
    assert backend.current is before


@pytest.mark.parametrize("how", ["half", "empty", "text", "gone", "columns", "folder"])
def test_damaged_export_is_one_line_and_the_old_answers_stay(shop, client, caplog, how):
    caplog.set_level("INFO")
    backend = client.app.state.backend
    damaged = write_damaged_export(shop, how)
    caplog.clear()
    problem = asyncio.run(refresh(backend, None))
    assert asyncio.run(refresh(backend, problem)) == problem
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    message = caplog.records[0].getMessage()
    assert str(damaged) in message and "the version is still 20260101T" in message
    assert "\n" not in message
    assert client.get(path_of("11")).json()["product_name"] == "Milk, skimmed"
    assert client.get("/readyz").status_code == 200
    write_export(shop, ROWS, LISTED, build=3)
    caplog.clear()
    assert asyncio.run(refresh(backend, problem)) is None
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert client.get("/readyz").json()["version"].startswith("20260103T")


def test_products_that_cannot_be_read_for_a_moment_are_never_left_out(shop, client, caplog):
    """One failed read once served the products of the table alone, for good, as that version."""
    backend = client.app.state.backend
    products = write_export(shop, ROWS, LISTED, build=2) / "products.parquet"
    content = products.read_bytes()
    products.unlink()
    problem = asyncio.run(refresh(backend, None))
    assert str(products) in problem
    assert client.get("/readyz").json()["version"].startswith("20260101T")
    products.write_bytes(content)
    assert asyncio.run(refresh(backend, problem)) is None
    ready = client.get("/readyz").json()
    assert ready["version"].startswith("20260102T")
    assert ready["products"] == len(LISTED) + 1  # and the one that is sold but not listed
    assert client.get(path_of("lonely")).json()["product_name"] == "Truffles"


class Away:
    """A backend whose store does not answer."""

    def __init__(self, backend: LakeBackend) -> None:
        self.current = self
        self.name, self.built_at = backend.current.name, backend.current.built_at
        self.newest_ordered_at = None
        self.catalogue = backend.current.catalogue

    async def answers(self, product_ids: list[str]) -> list[bytes | None]:
        raise Unavailable("Redis is unavailable")

    async def refresh(self) -> None:
        raise CannotRun("away")

    async def check(self) -> None:
        raise Unavailable("away")

    async def close(self) -> None:
        pass


def test_a_store_that_is_away_is_503_and_the_search_goes_on(client):
    with serving(Away(client.app.state.backend)) as client:
        for path in (path_of("011"), path_of("011") + "?limit=1", "/readyz"):
            response = client.get(path)
            assert (response.status_code, response.headers["retry-after"]) == (503, "2")
            assert list(response.json()) == ["detail"]
        assert search(client, "tea") == ["0012"]
        assert client.get("/healthz").status_code == 200


def test_answers_keep_to_the_openapi_document(client):
    """Requests made from the document, right and wrong ones: statuses, types and bodies as told."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    operations = [result.ok() for result in schema.get_all_operations()]
    assert {operation.path for operation in operations} == {
        "/v1/products/{product_id}/recommendations",
        "/v1/recommendations",
        "/v1/basket",
        "/v1/products",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    for operation in operations:

        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            case.call_and_validate()

        settings(
            max_examples=100,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )(check)()


@pytest.mark.parametrize("at_once", [1, 2, 3, 5_000])
def test_products_encoded_some_at_a_time_have_their_own_answers(shop, monkeypatch, at_once):
    write_export(shop, ROWS, LISTED)
    export = read_export(str(shop.lake))
    names, expected = names_of(export), recommendations_of(export)
    monkeypatch.setattr("bought_together.export.answers.PRODUCTS_AT_ONCE", at_once)
    batches = list(encode_answers(export))
    assert len(batches) == -(-len(names) // at_once)
    for batch in batches:
        for product in batch.to_pylist():
            product_id, rows = product["product_id"], expected.get(product["product_id"], [])
            found = orjson.loads(product["answer"])
            assert found == answer(product_id, names[product_id], rows)
            assert product["largest_count"] == max(
                (row["copurchase_count"] for row in rows), default=0
            )
