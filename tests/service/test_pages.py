"""The storefront shows any product as it is, links to every one, and says plainly what is missing.

The lakes are written by hand, so that a test owns every id, name and count. Pages are read as a
browser reads them: by their elements, and along their links.
"""

import asyncio
import json
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from bought_together.service.app import create_app
from bought_together.service.backends import LakeBackend, RedisBackend, Unavailable
from bought_together.service.security_headers import POLICY
from bought_together.storage.builds import add_report
from tests.support.exports import write_export
from tests.support.service import KEYS, publish, serving
from tests.support.shop import Shop

HOSTILE = "</title><script>alert(1)</script> & \"quoted\" 'name' {{ 7 * 7 }}"
ODD_IDS = [
    ".",
    "..",
    "../../etc/passwd",
    "/",
    "//example.org/",
    "a/b/",
    "?id=x&id=y#z",
    "100%",
    "%2e%2e",
    "%",
    "a b  c",
    "a+b",
    "\"><img src=x onerror='alert(1)'>",
    "javascript:alert(1)",
    "\N{CHEESE WEDGE}",
    "Äpfel",
    "عسل",
    "x" * 500,
]


class Page(HTMLParser):
    """A page's elements: (tag, attributes, all text inside), in the order in which they end."""

    VOID = frozenset({"meta", "link", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str], list[str]]] = []
        self.elements: list[tuple[str, dict[str, str], str]] = []
        self.feed(html)
        self.close()
        assert not self.open, "every element is closed"

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag in self.VOID:
            self.elements.append((tag, dict(attrs), ""))
        else:
            self.open.append((tag, dict(attrs), []))

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        for _, _, texts in self.open:
            texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        opened, attributes, texts = self.open.pop()
        assert opened == tag
        self.elements.append((tag, attributes, "".join(texts).strip()))

    def texts(self, tag: str) -> list[str]:
        return [text for name, _, text in self.elements if name == tag]

    def values(self, tag: str, attribute: str) -> list[str]:
        return [found[attribute] for name, found, _ in self.elements if name == tag]

    @property
    def links(self) -> dict[str, str]:
        """Text -> address of the links to products."""
        return {
            text: found["href"]
            for name, found, text in self.elements
            if name == "a" and found["href"].startswith("/product")
        }


SHARE = ["in", "50", "%", "of", "the", "baskets", "with", "Tea"]


@dataclass
class Site:
    """A lake and the pages made of it."""

    shop: Shop
    products: list[tuple[str, str, str]] = field(default_factory=list)
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    evidence: dict[tuple[str, int], Any] = field(default_factory=dict)

    def add(self, product_id: str, name: str = "", category: str = "") -> None:
        self.products.append((product_id, category, name))

    def recommend(self, product_id: str, *others: tuple[str, int]) -> None:
        """`others` are of the product list, with their counts, best first."""
        listed = {product_id: (name, category) for product_id, category, name in self.products}
        self.rows += [
            (product_id, rank, other, *listed[other], count)
            for rank, (other, count) in enumerate(others, 1)
        ]

    def open(self, **options: Any) -> TestClient:
        """Write the lake, and return a client of the service that has loaded it."""
        options = {"evidence": self.evidence} | options
        write_export(self.shop, self.rows, self.products, **options)
        backend = LakeBackend(str(self.shop.lake))
        asyncio.run(backend.refresh())
        return TestClient(create_app(backend))


@pytest.fixture
def site(shop: Shop) -> Site:
    return Site(shop)


def read(client: TestClient, address: str, status: int = 200) -> Page:
    response = client.get(address)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    return Page(response.text)


def assert_harmless(page: Page) -> None:
    """Nothing of the shop's own text has become an element, and the search is there."""
    assert page.values("script", "src") == ["/static/suggest.js"]
    assert page.texts("script") == [""]
    assert not page.texts("img")
    assert page.texts("label") == ["Search products by name or id"]
    assert not [name for _, found, _ in page.elements for name in found if name.startswith("on")]


def test_text_of_the_shop_stays_text(site):
    site.add("hub", HOSTILE, "<b>C</b>")
    site.add(HOSTILE, "Tea")
    site.recommend("hub", (HOSTILE, 2))
    site.recommend(HOSTILE, ("hub", 2))
    client = site.open()
    home = read(client, "/")
    results = read(client, f"/?query={HOSTILE[:8]}")
    product, other = read(client, "/product?id=hub"), read(client, home.links["Tea"])
    missing = read(client, "/product?id=%3Cscript%3Ealert(2)%3C/script%3E", 404)
    nothing = read(client, '/?query="><script>alert(3)</script>')
    basket = read(client, f"/basket?basket=hub&basket={quote(HOSTILE)}&basket=<script>")
    because = read(client, "/basket?basket=hub")
    for page in (home, results, product, other, missing, nothing, basket, because):
        assert_harmless(page)
    assert set(home.links) == set(results.links) == {HOSTILE, "Tea"}
    assert product.texts("h1") == [HOSTILE]
    assert product.texts("title")[0].startswith(HOSTILE)
    assert "<b>C</b>" in product.texts("span")
    assert list(other.links) == [HOSTILE]
    assert "<script>alert(2)</script>" in missing.texts("code")
    assert '"><script>alert(3)</script>' in nothing.values("input", "value")


@pytest.mark.parametrize("product_id", ODD_IDS)
def test_every_list_links_to_the_products_own_page(site, product_id):
    site.add("hub", "Hub")
    site.add(product_id, "Odd one", "ODD")
    site.recommend("hub", (product_id, 3))
    site.recommend(product_id, ("hub", 3))
    client = site.open()
    for start in ("/", "/?query=odd", "/product?id=hub"):
        page = read(client, read(client, start).links["Odd one"])
        assert page.texts("h1") == ["Odd one"]
        assert page.texts("code")[0] == product_id
        assert list(page.links) == ["Hub"]


def test_a_product_page_shows_rank_name_category_and_baskets_with_both(site):
    site.add("1", "Tea", "DRINKS")
    site.add("2", "Milk", "DAIRY")
    site.add("3", "Sugar", "PANTRY")
    site.recommend("1", ("2", 3_000), ("3", 750))
    page = read(site.open(), "/product?id=1")
    assert page.texts("h2") == ["Frequently bought together"]
    assert [text.split() for text in page.texts("li")] == [
        ["1", "Milk", "2", "DAIRY", "3,000", "baskets", *SHARE],
        ["2", "Sugar", "3", "PANTRY", "750", "baskets", *SHARE],
    ]
    parts = [found for _, found, _ in page.elements if found.get("class") == "part"]
    assert [part["width"] for part in parts] == ["100.00%", "25.00%"]


REMARKS = [
    ("copurchase", (0.118, 3.0, "clear"), "1 basket in 12 % of the baskets with Tea"),
    ("copurchase", (0.004, 3.0, "clear"), "1 basket in less than 1 % of the baskets with Tea"),
    (
        "copurchase",
        (0.5, 1.0, "one basket"),
        "1 basket in 50 % of the baskets with Tea one basket only",
    ),
    ("copurchase", (0.5, 1.0, "weak"), "1 basket in 50 % of the baskets with Tea may be chance"),
    ("pinned", (0.5, 1.0, None), "1 basket in 50 % of the baskets with Tea chosen by the shop"),
    ("category", (0.0, 0.0, None), "bought with products of this category"),
    ("bestseller", (None, None, None), "best seller"),
]


@pytest.mark.parametrize(("source", "evidence", "told"), REMARKS)
def test_a_recommendation_says_what_speaks_for_it(site, source, evidence, told):
    site.add("1", "Tea")
    site.add("2", "Milk")
    site.rows = [("1", 1, "2", "Milk", "", int(evidence[0] not in (0, None)), source)]
    site.evidence = {("1", 1): evidence}
    (text,) = read(site.open(), "/product?id=1").texts("li")
    assert " ".join(text.split()) == f"1 Milk 2 {told}"


def test_an_answer_of_an_older_program_is_shown_without_evidence(site, monkeypatch):
    """Redis holds it until something newer is published."""
    old = {"rank": 1, "product_id": "2", "product_name": "Milk", "category_code": ""}
    answer = {
        "product_id": "1",
        "product_name": "Tea",
        "recommendations": [old | {"copurchase_count": 3}],
    }

    async def answers_of(*_: object) -> list[bytes]:
        return [json.dumps(answer).encode()]

    site.add("1", "Tea")
    client = site.open()
    monkeypatch.setattr("bought_together.service.pages.answers_of", answers_of)
    (text,) = read(client, "/product?id=1").texts("li")
    assert text.split() == ["1", "Milk", "2", "3", "baskets"]


def test_a_product_without_a_name_goes_by_its_id(site):
    site.add("7", "", "C")
    site.add("8", " \u00a0 ", "C")
    site.recommend("9", ("7", 2), ("8", 1))
    client = site.open()
    assert sorted(read(client, "/").links) == ["7", "8", "9"]
    assert read(client, "/product?id=7").texts("h1") == ["7"]
    not_listed = read(client, "/product?id=9")
    assert not_listed.texts("h1") == ["9"]
    assert list(not_listed.links) == ["7", "8"]
    assert "not in the product list" in " ".join(not_listed.texts("p"))


def test_a_product_without_recommendations_says_so(site):
    site.add("1", "Truffles")
    page = read(site.open(), "/product?id=1")
    assert page.texts("h1") == ["Truffles"]
    assert "Nothing yet" in " ".join(page.texts("p"))
    assert not page.texts("li")


@pytest.mark.parametrize("address", ["/product?id=TEA", "/product?id=", "/product"])
def test_an_unknown_product_is_a_page_that_says_so(site, address):
    site.add("tea", "Tea")
    page = read(site.open(), address, 404)
    assert page.texts("h1") == ["No such product"]
    assert_harmless(page)


def test_a_search_without_a_result_says_so_and_keeps_the_query(site):
    site.add("1", "Tea")
    page = read(site.open(), "/?query=coffee+beans")
    assert "No product has" in " ".join(page.texts("p"))
    assert page.values("input", "value") == ["coffee beans"]
    assert not page.links


@pytest.mark.parametrize(("count", "told"), [(1, "1 product"), (50, "50 products"), (51, "first")])
def test_a_search_says_how_many_it_found_and_whether_there_are_more(site, count, told):
    for number in range(count):
        site.add(f"{number:03}", f"Tea {number:03}")
    page = read(site.open(), "/?query=tea")
    assert len(page.links) == min(count, 50)
    assert told in " ".join(page.texts("p"))


def test_a_query_of_any_length_is_answered(site):
    site.add("1", "Tea")
    assert read(site.open(), f"/?query={'tea+' * 1_000}x").links


def test_pages_say_which_build_they_are_from(site):
    site.add("1", "Tea")
    client = site.open()
    backend = client.app.state.backend
    moment = backend.current.built_at.replace(2026, 11, 4, 2, 38)
    backend.current = replace(backend.current, built_at=moment)
    for address in ("/", "/?query=tea", "/product?id=1", "/basket?basket=1"):
        assert read(client, address).texts("time") == ["4 November 2026, 02:38 UTC"]


def links(page: Page) -> dict[str, str]:
    """Text -> address of all links of a page."""
    return {text: found["href"] for name, found, text in page.elements if name == "a"}


def items(page: Page) -> list[str]:
    """Return the text of each item of the lists of a page, with single spaces."""
    return [" ".join(text.split()) for text in page.texts("li")]


def test_a_product_is_added_from_its_page_and_removed_again(site):
    for product_id, name in (("1", "Tea"), ("2", "Milk"), ("3", "Sugar")):
        site.add(product_id, name)
    site.recommend("1", ("2", 3), ("3", 1))
    site.recommend("2", ("1", 3), ("3", 2))
    client = site.open(baskets={"1": 4, "2": 4, "3": 2})
    basket = read(client, links(read(client, "/product?id=1"))["Add to basket"])
    assert basket.texts("h1") == ["Your basket"]
    assert items(basket) == [
        "Tea 1 Remove Tea",
        "1 Milk 2 in 75 % of the baskets with Tea Add Milk",
        "2 Sugar 3 in 25 % of the baskets with Tea Add Sugar",
    ]
    parts = [found for _, found, _ in basket.elements if found.get("class") == "part"]
    assert [part["width"] for part in parts] == ["75.00%", "25.00%"]
    both = read(client, links(basket)["Add Milk"])
    assert items(both) == [
        "Tea 1 Remove Tea",
        "Milk 2 Remove Milk",
        "1 Sugar 3 in 50 % of the baskets with Milk Add Sugar",
    ]
    assert "In your basket" in links(read(client, links(both)["Milk"]))
    milk = read(client, links(both)["Remove Tea"])
    assert items(milk)[0] == "Milk 2 Remove Milk"
    assert_empty(read(client, links(milk)["Remove Milk"]))


def assert_empty(page: Page) -> None:
    assert page.texts("h1") == ["Your basket"]
    assert "nothing in it" in " ".join(page.texts("p"))
    assert not page.texts("li")


def test_a_basket_of_nothing_is_empty(site):
    site.add("1", "Tea")
    client = site.open()
    basket = links(read(client, "/"))["Basket"]
    assert basket == "/basket"
    assert_empty(read(client, basket))
    assert "Not found" not in client.get(basket).text


@pytest.mark.parametrize("product_id", ODD_IDS)
def test_every_link_carries_the_basket(site, product_id):
    site.add("hub", "Hub")
    site.add(product_id, "Odd one", "ODD")
    site.recommend("hub", (product_id, 3))
    site.recommend(product_id, ("hub", 3))
    client = site.open()
    basket = links(read(client, read(client, "/").links["Odd one"]))["Add to basket"]
    carried = basket.removeprefix("/basket?")
    for address in ("/?", "/?query=odd&", "/?query=none&", "/product?id=hub&", "/basket?"):
        page = read(client, address + carried)
        left = [
            link
            for text, link in links(page).items()
            if carried not in link and not text.startswith(("Skip", "Remove"))
        ]
        assert left == [], address
        hidden = [found["value"] for _, found, _ in page.elements if found.get("name") == "basket"]
        assert hidden == [product_id]
        assert "noindex, nofollow" in [found.get("content") for _, found, _ in page.elements]
    page = read(client, basket)
    assert page.texts("code")[0] == product_id
    assert links(page)["Remove Odd one"] == "/basket"


def test_a_product_is_in_the_basket_once_and_unknown_ones_can_be_removed(site):
    site.add("1", "Tea")
    client = site.open()
    page = read(client, "/basket?basket=gone&basket=1&basket=%3Cb%3E&basket=1")
    assert items(page) == ["Tea 1 Remove Tea"]
    assert page.texts("code") == ["1", "gone", "<b>"]
    assert links(page)["Remove"] == "/basket?basket=1"
    assert read(client, links(page)["Remove"]).texts("code") == ["1"]
    unknown = read(client, "/basket?basket=gone")
    assert links(unknown)["Remove"] == "/basket"


def test_a_basket_holds_a_hundred_products_and_then_takes_no_more(site):
    for number in range(102):
        site.add(f"{number:03}", f"Tea {number:03}")
    site.recommend("000", ("101", 1))
    client = site.open()
    ids = [f"basket={number:03}" for number in range(101)]
    almost = read(client, f"/basket?{'&'.join(ids[:99])}")
    assert "Add Tea 101" in links(almost)
    full = read(client, f"/basket?{'&'.join(ids)}")
    assert len(items(full)) == 101  # and the recommended one
    assert "Add Tea 101" not in links(full)
    product = read(client, f"/product?id=101&{'&'.join(ids)}")
    assert "Add to basket" not in links(product)
    assert "Your basket is full." in product.texts("p")


@pytest.mark.parametrize(
    ("count", "told"), [(9, "less than 1 %"), (10, "1 %"), (124, "12 %"), (1_000, "100 %")]
)
def test_shares_are_told_in_whole_percent(site, count, told):
    site.add("1", "Tea")
    site.add("2", "Milk")
    site.recommend("1", ("2", count))
    page = read(site.open(baskets={"1": 1_000}), "/basket?basket=1")
    assert items(page)[1] == f"1 Milk 2 in {told} of the baskets with Tea Add Milk"


def test_a_product_that_no_basket_supports_has_no_share(site):
    """Of a list that was filled up."""
    site.add("1", "Tea")
    site.add("2", "Milk")
    site.recommend("1", ("2", 0))
    page = read(site.open(baskets={}), "/basket?basket=1")
    assert items(page)[1] == "1 Milk 2 Add Milk"


@pytest.mark.parametrize("address", ["/", "/?query=tea", "/product?id=1", "/basket?basket=1"])
def test_without_data_a_page_says_so_and_when_to_come_back(shop, address):
    client = TestClient(create_app(LakeBackend(str(shop.lake))))
    page = read(client, address, 503)
    assert page.texts("h1") == ["Nothing to show right now"]
    assert int(client.get(address).headers["retry-after"]) > 0


def test_a_product_page_says_so_when_the_store_is_away(site):
    class Away:
        def __getattr__(self, name: str) -> Any:
            return getattr(loaded, name)

        async def answers(self, product_ids: list[str]) -> list[bytes | None]:
            raise Unavailable("secret.example:6379 does not answer")

    site.add("1", "Tea")
    client = site.open()
    loaded = client.app.state.backend.current
    client.app.state.backend.current = Away()
    response = client.get("/product?id=1")
    assert response.headers["cache-control"] == "no-store"
    assert int(response.headers["retry-after"]) > 0
    assert "secret" not in response.text
    assert read(client, "/product?id=1", 503).texts("h1") == ["Nothing to show right now"]
    assert read(client, "/").links, "the catalogue is in memory"


@pytest.mark.parametrize(
    "address",
    ["/", "/?query=tea", "/product?id=1", "/product?id=2", "/basket", "/basket?basket=1", "/docs"],
)
def test_head_answers_as_get_does(site, address):
    site.add("1", "Tea")
    client = site.open()
    head, get = client.head(address), client.get(address)
    assert (head.status_code, dict(head.headers)) == (get.status_code, dict(get.headers))


def test_pages_use_files_of_this_service_alone_and_a_browser_may_hold_those(site):
    kinds = {".js": "javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    client = site.open()
    for page in (read(client, "/"), read(client, "/docs")):
        files = page.values("script", "src") + page.values("link", "href")
        assert len(files) >= 3
        for file in files:
            response = client.get(file)
            assert response.status_code == 200
            assert response.headers["cache-control"] == "public, max-age=3600"
            assert kinds[file[file.rindex(".") :]] in response.headers["content-type"]
            held = client.get(file, headers={"If-None-Match": response.headers["etag"]})
            assert held.status_code == 304


def test_pages_are_not_part_of_the_api(site):
    client = site.open()
    paths = client.get("/openapi.json").json()["paths"]
    assert "/v1/products" in paths
    assert not {"/", "/product", "/basket", "/docs"} & set(paths)


@pytest.mark.parametrize("file", ["docs/redoc.standalone.js", "%2e%2e/app.py", "", "docs/"])
def test_no_other_files_are_served(site, file):
    assert site.open().get(f"/static/{file}").status_code == 404


REPORT_FILE = "<!doctype html><title>Report</title><style>p { color: red }</style><p>Text</p>"


def test_the_report_is_shown_once_it_is_written_and_its_style_apart(site):
    site.add("1", "Tea")
    site.recommend("1", ("1", 2))
    client = site.open()
    missing = read(client, "/report", 404)
    assert missing.texts("h1") == ["No report yet"]
    assert "make report" in missing.texts("code")
    assert client.get("/report.css").status_code == 404
    add_report(str(site.shop.lake), site.shop.published.name, REPORT_FILE.encode())
    shown = client.get("/report")
    assert shown.text == (
        '<!doctype html><title>Report</title><link rel="stylesheet" href="/report.css"><p>Text</p>'
    )
    assert shown.headers["content-security-policy"] == POLICY
    style = client.get("/report.css")
    assert (style.text, style.headers["content-type"]) == (
        "p { color: red }",
        "text/css; charset=utf-8",
    )


def test_behind_a_proxy_the_style_of_the_report_is_found(site):
    site.add("1", "Tea")
    site.recommend("1", ("1", 2))
    app = site.open().app
    add_report(str(site.shop.lake), site.shop.published.name, REPORT_FILE.encode())
    page = read(TestClient(app, root_path="/shop"), "/shop/report")
    assert page.values("link", "href") == ["/shop/report.css"]


def test_a_service_that_reads_redis_says_where_the_report_is(site, valkey):
    site.add("1", "Tea")
    site.recommend("1", ("1", 2))
    site.open()
    add_report(str(site.shop.lake), site.shop.published.name, REPORT_FILE.encode())
    publish(site.shop, valkey)
    with serving(RedisBackend(valkey.url(), KEYS.prefix)) as client:
        page = read(client, "/report", 404)
        assert f"published/{site.shop.published.name}/report.html" in page.texts("code")
