"""A whole basket is answered by maximum confidence, exactly, and alike wherever it is asked.

The exports are written by hand, so that a test owns every id, name and count in them.
"""

import json
import random
from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from typing import Any

import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from bought_together.export.redis_versions import as_parquet
from bought_together.service.backends import LakeBackend, RedisBackend
from tests.support.exports import CLEAR_PAIR, write_export
from tests.support.processes import assert_one_line
from tests.support.service import KEYS, call, publish, serving
from tests.support.shop import Shop

PATH = "/v1/basket"
LISTED = [
    ("tea", "DRINKS", "Tea"),
    ("milk", "DAIRY", "Milk"),
    ("cake", "BAKERY", "Cake"),
    ("jam", "PANTRY", "Jam"),
    ("lonely", "PANTRY", "Truffles"),
]
ROWS = [
    ("tea", 1, "milk", "Milk", "DAIRY", 30),
    ("tea", 2, "cake", "Cake", "BAKERY", 20),
    ("milk", 1, "tea", "Tea", "DRINKS", 30),
    ("milk", 2, "cake", "Cake", "BAKERY", 24),
    ("milk", 3, "jam", "Jam", "PANTRY", 12),
    ("unlisted", 1, "jam", "Jam", "PANTRY", 1),
]
BASKETS = {"tea": 40, "milk": 60, "cake": 50, "jam": 20, "unlisted": 4}


@pytest.fixture
def client(shop: Shop) -> Iterator[TestClient]:
    write_export(shop, ROWS, LISTED, baskets=BASKETS)
    with serving(LakeBackend(str(shop.lake))) as client:
        yield client


def ask(client: TestClient, *product_ids: str, **options: Any) -> Any:
    response = client.get(PATH, params={"product_id": product_ids, **options})
    assert response.status_code == 200, response.text
    return response.json()


def found(answer: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Return each recommended product, the one that it is because of, and their count."""
    return [
        (row["product_id"], row["because_of"]["product_id"], row["copurchase_count"])
        for row in answer["recommendations"]
    ]


def oracle(
    rows: list[tuple[Any, ...]], baskets: dict[str, int], asked: list[str], limit: int
) -> list[tuple[str, str, int]]:
    """Return what `found` must return."""
    best: dict[str, tuple[Any, ...]] = {}
    for member, _, other, _, _, count in rows:
        if member in asked and other not in asked:
            confidence = Fraction(count, baskets.get(member, 0) or 1)
            key = (-confidence, -count, -baskets.get(other, 0), other, member)
            best[other] = min(key, best.get(other, key))
    ordered = sorted(best.values())[:limit]
    return [(other, member, -count) for _, count, _, other, member in ordered]


def test_an_answer_says_what_to_add_and_because_of_which_product(client):
    assert ask(client, "tea", "milk") == {
        "product_ids": ["tea", "milk"],
        "unknown_product_ids": [],
        "recommendations": [
            {
                "rank": 1,
                "product_id": "cake",
                "product_name": "Cake",
                "category_code": "BAKERY",
                "copurchase_count": 20,
                **CLEAR_PAIR,
                "confidence": 0.5,
                "because_of": {"product_id": "tea", "product_name": "Tea"},
            },
            {
                "rank": 2,
                "product_id": "jam",
                "product_name": "Jam",
                "category_code": "PANTRY",
                "copurchase_count": 12,
                **CLEAR_PAIR,
                "confidence": 0.2,
                "because_of": {"product_id": "milk", "product_name": "Milk"},
            },
        ],
    }


def test_a_basket_of_one_product_has_the_order_of_its_list(client):
    listed = [row[2] for row in ROWS if row[0] == "milk"]
    assert [product_id for product_id, _, _ in found(ask(client, "milk"))] == listed


def test_products_count_once_and_unknown_ones_are_named(client):
    answer = ask(client, "nobody", "tea", "milk", "tea", "", "nobody")
    assert answer["product_ids"] == ["tea", "milk"]
    assert answer["unknown_product_ids"] == ["nobody", ""]
    assert answer["recommendations"] == ask(client, "milk", "tea")["recommendations"]


@pytest.mark.parametrize(("product_id", "known"), [("nobody", []), ("lonely", ["lonely"])])
def test_a_basket_with_nothing_to_go_by_has_an_empty_list(client, product_id, known):
    """As a single product has: a page of the shop need not tell the cases apart."""
    answer = ask(client, product_id)
    assert (answer["product_ids"], answer["recommendations"]) == (known, [])


def test_a_product_outside_the_list_counts_and_has_no_name(client):
    answer = ask(client, "unlisted")
    (row,) = answer["recommendations"]
    assert (row["confidence"], row["because_of"]["product_name"]) == (0.25, None)


def test_confidences_are_compared_exactly(shop):
    """As fractions: these differ by 5e-19; as floats they are equal, and the count would decide."""
    many = 10**9
    rows = [
        ("first", 1, "a", "A", "", many - 1),
        ("second", 1, "b", "B", "", 2 * many - 3),
    ]
    listed = [(product_id, "", product_id) for product_id in ("first", "second", "a", "b")]
    baskets = {"first": many, "second": 2 * many - 1}
    assert (many - 1) / many == (2 * many - 3) / (2 * many - 1)
    assert Fraction(many - 1, many) > Fraction(2 * many - 3, 2 * many - 1)
    write_export(shop, rows, listed, baskets=baskets)
    with serving(LakeBackend(str(shop.lake))) as client:
        assert [row[0] for row in found(ask(client, "first", "second"))] == ["a", "b"]


@pytest.mark.parametrize(
    ("rows", "baskets", "expected"),
    [
        # Equal confidence: the higher co-purchase count, of members as of recommended products.
        ([("x", "a", 1), ("y", "a", 2)], {"x": 2, "y": 4}, [("a", "y", 2)]),
        ([("x", "a", 1), ("y", "b", 2)], {"x": 2, "y": 4, "a": 9}, [("b", "y", 2), ("a", "x", 1)]),
        # Then the recommended product in more baskets; then the smaller id by code point.
        ([("x", "a", 1), ("x", "b", 1)], {"x": 2, "a": 1, "b": 2}, [("b", "x", 1), ("a", "x", 1)]),
        ([("x", "a", 1), ("y", "Z", 1)], {"x": 2, "y": 2}, [("Z", "y", 1), ("a", "x", 1)]),
        # One product, alike for both: the member with the smaller id.
        ([("y", "a", 1), ("x", "a", 1)], {"x": 2, "y": 2}, [("a", "x", 1)]),
    ],
)
def test_ties(shop, rows, baskets, expected):
    table = [(member, 1, other, other, "", count) for member, other, count in rows]
    listed = [(product_id, "", product_id) for product_id in ("x", "y", "a", "b", "Z")]
    write_export(shop, table, listed, baskets=baskets)
    with serving(LakeBackend(str(shop.lake))) as client:
        for asked in (["x", "y"], ["y", "x"]):
            assert found(ask(client, *asked)) == expected


def random_shop(chance: random.Random) -> tuple[list[Any], list[Any], dict[str, int]]:
    """Return rows, product list and basket counts of a shop full of ties.

    Some products were never sold; those have lists of products that were in no basket with them.
    """
    ids = [f"{chance.choice('ÄZaz0🧀')}{number}" for number in range(60)]
    baskets = {product_id: chance.choice([0, 1, 2, 3, 4, 6, 12, 12]) for product_id in ids}
    listed = [(product_id, "C", f"Name of {product_id}") for product_id in ids[:50]]
    rows = []
    for member in ids[:55]:
        others = chance.sample([one for one in ids[:50] if one != member], chance.randint(0, 5))
        counts = [chance.randint(min(1, baskets[member]), baskets[member]) for _ in others]
        rows += [
            (member, rank, other, f"Name of {other}", "C", count)
            for rank, (other, count) in enumerate(zip(others, sorted(counts)[::-1], strict=True), 1)
        ]
    return rows, listed, baskets


def random_baskets(chance: random.Random, baskets: dict[str, int], count: int) -> list[list[str]]:
    """Return baskets of one to ten products, with repeated and unknown ones among them."""
    ids = [*baskets, "unknown", "?"]
    return [chance.choices(ids, k=chance.randint(1, 10)) for _ in range(count)]


def test_a_thousand_baskets_equal_the_oracle(shop, valkey):
    chance = random.Random(14)
    rows, listed, baskets = random_shop(chance)
    write_export(shop, rows, listed, baskets=baskets)
    publish(shop, valkey)
    with (
        serving(LakeBackend(str(shop.lake))) as client,
        serving(RedisBackend(valkey.url(), KEYS.prefix)) as redis_client,
    ):
        for asked in random_baskets(chance, baskets, 1_000):
            limit = chance.randint(1, 12)
            answer = ask(client, *asked, limit=limit)
            assert found(answer) == oracle(rows, baskets, asked, limit)
            assert ask(redis_client, *asked, limit=limit) == answer


@pytest.mark.parametrize(
    ("asked", "commands"),
    [(["tea"], {"hget": 1}), (["tea", "milk", "nobody"], {"hmget": 1}), (["nobody"], {})],
)
def test_a_basket_is_at_most_one_question_to_redis(shop, valkey, asked, commands):
    write_export(shop, ROWS, LISTED, baskets=BASKETS)
    publish(shop, valkey)
    with serving(RedisBackend(valkey.url(), KEYS.prefix)) as client:
        ask(client, *asked)  # opens the connection
        valkey.client().config_resetstat()
        ask(client, *asked)
        counted = valkey.client().info("commandstats")
    calls = {name.removeprefix("cmdstat_"): each["calls"] for name, each in counted.items()}
    of_this_test = {"info", "config|resetstat", "hello", "client|setinfo"}
    assert {name: calls[name] for name in calls.keys() - of_this_test} == commands


def test_a_version_without_basket_counts_answers_all_else(shop, valkey):
    """As an earlier release published it; publishing it again makes it whole."""
    write_export(shop, ROWS, LISTED, baskets=BASKETS)
    publish(shop, valkey)
    client = valkey.client(decode_responses=False)
    products = KEYS.part(client.get(KEYS.current).decode(), "products")
    table = pq.read_table(BytesIO(client.get(products))).drop_columns(["basket_count"])
    client.set(products, as_parquet(table))
    with serving(RedisBackend(valkey.url(), KEYS.prefix)) as old:
        assert len(old.get("/v1/products/milk/recommendations").json()["recommendations"]) == 3
        assert old.get("/readyz").status_code == 200
        response = old.get(PATH, params={"product_id": "tea"})
        assert (response.status_code, response.headers["retry-after"]) == (503, "2")
        assert "publish it again" in response.json()["detail"]
    assert "6 products" in publish(shop, valkey)
    with serving(RedisBackend(valkey.url(), KEYS.prefix)) as client:
        assert len(found(ask(client, "tea"))) == 2


def test_redis_that_is_away_or_incomplete_is_503(shop, valkey):
    write_export(shop, ROWS, LISTED, baskets=BASKETS)
    publish(shop, valkey)
    with serving(RedisBackend(valkey.url(), KEYS.prefix)) as client:
        answers = KEYS.part(valkey.client().get(KEYS.current), "answers")
        valkey.client().hdel(answers, "milk")
        response = client.get(PATH, params={"product_id": ["tea", "milk"]})
        assert (response.status_code, response.headers["retry-after"]) == (503, "2")
        valkey.stop()
        response = client.get(PATH, params={"product_id": "tea"})
        assert response.status_code == 503
        assert response.json() == {"detail": "Redis is unavailable"}


@pytest.mark.parametrize("product_id", ["tea", "a+b c", "%", "é&=", "", "\x00", "🧀", "x" * 9_000])
@pytest.mark.parametrize("limit", [None, "1", "999", "1000"])
def test_routed_requests_have_the_same_answers_as_fast_ones(client, product_id, limit):
    """A parameter of somebody else takes a request off the fast lane."""
    asked = {"product_id": ["milk", product_id]} | ({"limit": limit} if limit else {})
    fast = client.get(PATH, params=asked)
    routed = client.get(PATH, params=asked | {"utm_source": "mail"})
    assert (fast.status_code, fast.content) == (200, routed.content)
    assert dict(fast.headers) == dict(routed.headers)


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "five", "", "1.5", "\u0661"])
def test_a_bad_limit_is_refused_in_json(client, limit):
    response = client.get(PATH, params={"product_id": "tea", "limit": limit})
    assert response.status_code == 422
    assert "limit" in response.json()["detail"][0]["loc"]


def test_a_basket_has_one_to_a_hundred_products(client):
    ids = [str(number) for number in range(101)]
    assert ask(client, *ids[:100])["unknown_product_ids"] == ids[:100]
    for asked in ([], ids):
        response = client.get(PATH, params={"product_id": asked})
        assert response.status_code == 422
        assert "product_id" in response.json()["detail"][0]["loc"]


def test_five_products_are_answered_unless_asked_for_more(shop):
    listed = [(str(number), "", str(number)) for number in range(8)]
    rows = [("0", number, str(number), str(number), "", 9 - number) for number in range(1, 8)]
    write_export(shop, rows, listed, baskets={"0": 9})
    with serving(LakeBackend(str(shop.lake))) as client:
        counts = [len(found(ask(client, "0", **options))) for options in ({}, {"limit": 7})]
        assert counts == [5, 7]


@pytest.mark.parametrize("more", ["", "&other=1"])
def test_answers_are_cached_measured_and_sent_like_all_others(client, more):
    path = f"{PATH}?product_id=tea&product_id=milk{more}"
    first = client.get(path)
    single = client.get("/v1/products/tea/recommendations")
    of_its_own = {"etag", "content-length"}
    assert {name: value for name, value in first.headers.items() if name not in of_its_own} == {
        name: value for name, value in single.headers.items() if name not in of_its_own
    }
    held = client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (held.status_code, held.content) == (304, b"")
    head = client.head(path)
    assert (head.status_code, dict(head.headers)) == (200, dict(first.headers))
    text = client.get("/metrics").text
    assert 'bought_together_requests_total{route="/v1/basket",status="200"} 2.0' in text
    assert 'bought_together_requests_total{route="/v1/basket",status="304"} 1.0' in text


@pytest.mark.parametrize("more", ["", "&other=1"])
def test_without_data_a_basket_is_503(shop, more):
    with serving(LakeBackend(str(shop.lake))) as client:
        response = client.get(f"{PATH}?product_id=tea{more}")
        assert (response.status_code, response.headers["retry-after"]) == (503, "2")
        assert list(response.json()) == ["detail"]


def look_up(shop: Shop, *arguments: str) -> str:
    finished = call(shop, "recommend", "--basket", *arguments)
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


def test_the_lookup_gives_the_services_answers(shop):
    chance = random.Random(7)
    rows, listed, baskets = random_shop(chance)
    write_export(shop, rows, listed, baskets=baskets)
    with serving(LakeBackend(str(shop.lake))) as client:
        for asked in random_baskets(chance, baskets, 30):
            assert json.loads(look_up(shop, "--json", "--", *asked)) == ask(client, *asked)


def test_the_lookup_shows_what_to_add_and_what_is_unknown(shop):
    write_export(shop, ROWS, LISTED, baskets=BASKETS)
    text = look_up(shop, "milk", "nobody", "unlisted")
    assert text.startswith("Not found: nobody.\nAdd to milk, unlisted:\n")
    words = [line.split() for line in text.splitlines()[5:]]
    assert words[0] == ["1", "tea", "Tea", "DRINKS", "50.0%", "Milk", "(milk)"]
    assert words[2] == ["3", "jam", "Jam", "PANTRY", "25.0%", "unlisted"]
    assert look_up(shop, "nobody") == "Not found: nobody.\nNothing to add.\n"
    assert look_up(shop, "lonely") == "Nothing to add.\n"


def test_the_lookup_of_a_basket_needs_products(shop):
    write_export(shop, ROWS, LISTED)
    assert_one_line(call(shop, "recommend", "--basket"), 2, "--basket needs PRODUCT_IDS")
