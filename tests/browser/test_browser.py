"""The storefront in a real browser: by mouse, by keyboard, on a phone, and without JavaScript.

Chromium drives the service as people run it, over the sample and some products with awkward ids and
names. After each test the browser must have asked no other host, and its console must be clean.
"""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    Route,
    expect,
    sync_playwright,
)

from tests.support import ROOT
from tests.support.shop import Shop

CHROMIUM = shutil.which("chromium")
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 60  # seconds after which a service that does not answer fails the test
ODD = {
    "..": "Parent folder",
    "a/b?c=d&e#f": "Address",
    "50% \"off\" 'now'": "Half price",
    "\N{CHEESE WEDGE}": "Cheese wedge",
    "<i>7</i>": "<img src=x onerror=alert(1)> & co",
    "long": "Unbroken" * 30,
}
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")
Open = Callable[..., Page]
with_and_without_javascript = pytest.mark.parametrize(
    "javascript", [True, False], ids=["javascript", "no-javascript"]
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running service."""
    folder = tmp_path_factory.mktemp("shop")
    shop = Shop(folder, folder)
    basket = {"itemList": [{"item": item} for item in ("5010", *ODD)]}
    sample = (ROOT / "data" / "transactions.txt").read_bytes().splitlines()
    shop.write_records([*sample, *[json.dumps(basket)] * 100])
    sample = (ROOT / "data" / "products.txt").read_text("utf-8").splitlines()
    shop.write_products([*sample, *(f"{item}\tODD\t{name}" for item, name in ODD.items())])
    shop.build()
    reported = shop.run("report")
    assert reported.returncode == 0, reported.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log").open("wb") as log:
        service = subprocess.Popen(
            [sys.executable, ROOT / "scripts" / "serve.py"],
            cwd=ROOT,
            env=shop.environment(HOST="127.0.0.1", PORT=port, REDIS_URL=""),
            stdout=log,
            stderr=log,
        )
    try:
        wait_until_ready(service, f"http://127.0.0.1:{port}", folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        service.terminate()
        service.wait(PATIENCE)


def wait_until_ready(service: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and service.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/readyz", timeout=PATIENCE):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    pytest.fail(f"the service does not answer:\n{log.read_text()}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Open]:
    """Opens a path of the service in a browser context of its own, which is watched."""
    asked: list[str] = []
    problems: list[str] = []
    contexts = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            problems.append(message.text)

    def on_request(request: Request) -> None:
        asked.append(request.url)

    def open_path(path: str, *, javascript: bool = True, width: int = 1280) -> Page:
        context = browser.new_context(
            base_url=address,
            java_script_enabled=javascript,
            viewport={"width": width, "height": 740},
        )
        contexts.append(context)
        context.add_init_script(REPORT_VIOLATIONS)
        context.on("console", on_console)
        context.on("weberror", lambda error: problems.append(str(error.error)))
        context.on("request", on_request)
        page = context.new_page()
        page.goto(path)
        return page

    yield open_path
    for context in contexts:
        context.close()
    assert problems == []
    assert asked
    elsewhere = [url for url in asked if not url.startswith((f"{address}/", "data:"))]
    assert elsewhere == []


def search(page: Page, query: str) -> None:
    """Search by the form, as without suggestions."""
    page.get_by_label("Search products").fill(query)
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Products for")


def recommended(page: Page) -> list[str]:
    """Return the names in the section of recommendations, best first."""
    section = page.get_by_role("region", name="Frequently bought together")
    return section.get_by_role("link").all_inner_texts()


def follow(page: Page, name: str) -> None:
    """Follow the link with this name; it leads to the page with this name."""
    page.get_by_role("main").get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def focused(page: Page) -> str:
    """Return what has the focus, in a word; fails where nothing shows that it has it."""
    name, outline = page.evaluate(
        """() => {
          const element = document.activeElement;
          const { outlineStyle, outlineWidth } = getComputedStyle(element);
          return [element.textContent.trim() || element.id, outlineStyle + outlineWidth];
        }"""
    )
    assert outline == "solid3px", f"{name} shows no focus"
    return name


def press_tab(page: Page, times: int) -> list[str]:
    """Return what gets the focus, one after the other."""
    found = []
    for _ in range(times):
        page.keyboard.press("Tab")
        found.append(focused(page))
    return found


def id_in(page: Page) -> str:
    return parse_qs(urlsplit(page.url).query)["id"][0]


def test_a_suggestion_is_chosen_by_keyboard(open_page):
    page = open_page("/")
    field = page.get_by_role("combobox", name="Search products by name or id")
    expect(field).to_have_attribute("aria-expanded", "false")
    field.press_sequentially("spag")
    options = page.get_by_role("option")
    expect(options).to_have_count(1)
    expect(field).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_role("status")).to_have_text("1 suggestion")
    field.press("ArrowDown")
    expect(options.first).to_have_attribute("aria-selected", "true")
    expect(field).to_be_focused()
    active = field.get_attribute("aria-activedescendant")
    assert active and active == options.first.get_attribute("id")
    field.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Spaghetti")
    assert id_in(page) == "5010"


def test_arrows_go_round_and_escape_leaves_what_was_typed(open_page):
    page = open_page("/")
    field = page.get_by_role("combobox")
    field.press_sequentially("butter")
    options = page.get_by_role("option")
    expect(options).to_have_count(2)
    first, second = options.all_inner_texts()
    chosen = page.get_by_role("option", selected=True)
    for key, texts in [("Up", [second]), ("Up", [first]), ("Up", []), ("Down", [first])]:
        field.press(f"Arrow{key}")
        expect(chosen).to_have_text(texts, use_inner_text=True)
    field.press("Escape")
    expect(options).to_have_count(0)
    expect(field).to_have_value("butter")
    expect(field).to_have_attribute("aria-expanded", "false")
    field.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Products for “butter”")


def test_a_late_answer_does_not_replace_a_newer_one(open_page):
    page = open_page("/")
    held: list[Route] = []
    page.route(lambda url: "query=b&" in url, lambda route: held.append(route))
    field = page.get_by_role("combobox")
    with page.expect_request(lambda request: "query=b&" in request.url):
        field.press_sequentially("b")
    with page.expect_event("requestfailed", lambda request: "query=b&" in request.url):
        field.press_sequentially("acon")
    expect(page.get_by_role("option")).to_have_count(1)
    expect(page.get_by_role("option")).to_contain_text("Bacon")
    assert len(held) == 1


@pytest.mark.parametrize(("product_id", "name"), ODD.items(), ids=[*"123456"])
def test_a_suggestion_is_text_and_leads_to_its_own_page(open_page, product_id, name):
    page = open_page("/")
    page.get_by_role("combobox").press_sequentially(product_id)
    option = page.get_by_role("option").filter(has_text=name)
    expect(option).to_contain_text(product_id)
    expect(page.locator("img")).to_have_count(0)
    option.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    assert id_in(page) == product_id


@with_and_without_javascript
def test_search_product_and_three_hops(open_page, javascript):
    page = open_page("/", javascript=javascript)
    search(page, "coffee ground")
    follow(page, "Ground coffee")
    seen = {"Ground coffee"}
    for _ in range(3):
        name = next(name for name in recommended(page) if name not in seen)
        follow(page, name)
        seen.add(name)
    page.go_back()
    expect(page.get_by_role("heading", level=1)).not_to_have_text(name)
    page.get_by_role("link", name="Bought together", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("What goes with what")


@with_and_without_javascript
def test_odd_products_are_reached_by_links(open_page, javascript):
    page = open_page("/product?id=5010", javascript=javascript)
    for _ in ODD:
        name = next(name for name in recommended(page) if name in ODD.values())
        follow(page, name)
        assert ODD[id_in(page)] == name
    expect(page.locator("img")).to_have_count(0)


@with_and_without_javascript
def test_a_basket_goes_along_from_page_to_page(open_page, javascript):
    page = open_page("/product?id=5010", javascript=javascript)
    page.get_by_role("link", name="Add to basket").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your basket")
    name = "a/b?c=d&e#f"
    search(page, name)
    follow(page, ODD[name])
    page.get_by_role("link", name="Add to basket").click()
    removing = page.get_by_role("link", name="Remove")
    expect(removing).to_have_text(["Remove Spaghetti", f"Remove {ODD[name]}"])
    section = page.get_by_role("region", name="Often bought with these")
    added = section.get_by_role("link").first.inner_text()
    section.get_by_role("link", name=f"Add {added}", exact=True).click()
    expect(removing).to_have_count(3)
    expect(removing.last).to_have_text(f"Remove {added}")
    removing.first.click()
    expect(removing).to_have_text([f"Remove {ODD[name]}", f"Remove {added}"])
    page.go_back()
    expect(removing).to_have_count(3)


def test_a_suggestion_keeps_the_basket(open_page):
    page = open_page("/basket?basket=5010&basket=a%2Fb%3Fc%3Dd%26e%23f")
    page.get_by_role("combobox").press_sequentially("parmesan")
    page.get_by_role("option").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Parmesan")
    assert parse_qs(urlsplit(page.url).query)["basket"] == ["5010", "a/b?c=d&e#f"]


@with_and_without_javascript
def test_bars_are_as_long_as_their_counts(open_page, javascript):
    page = open_page("/product?id=2010", javascript=javascript)
    counts = [int(text) for text in page.locator(".count strong").all_inner_texts()]
    widths = [part.bounding_box()["width"] for part in page.locator(".bar .part").all()]
    assert len(counts) == 5
    assert widths[0] > 100
    expected = [widths[0] * count / counts[0] for count in counts]
    assert widths == pytest.approx(expected, abs=1)


@with_and_without_javascript
def test_the_keyboard_alone_is_enough(open_page, javascript):
    page = open_page("/", javascript=javascript)
    before = ["Skip to the content", "Bought together", "Basket", "query"]
    assert press_tab(page, 4) == before
    page.keyboard.type("spaghetti")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Products for “spaghetti”")
    assert press_tab(page, 6) == [*before, "Search", "Spaghetti"]
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Spaghetti")
    names = recommended(page)
    assert press_tab(page, 11) == [*before, "Search", "Add to basket", *names]
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(names[-1])


@with_and_without_javascript
def test_the_skip_link_leads_past_the_search(open_page, javascript):
    page = open_page("/product?id=2010", javascript=javascript)
    assert press_tab(page, 1) == ["Skip to the content"]
    assert page.get_by_role("link", name="Skip to the content").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert press_tab(page, 2) == ["Add to basket", recommended(page)[0]]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?query=b",
        "/?query=zebra",
        "/product?id=5010",
        "/product?id=long&basket=5010",
        "/basket",
        "/basket?basket=long&basket=5010&basket=nobody",
        "/docs",
        "/report",
    ],
)
def test_nothing_is_wider_than_a_phone(open_page, path):
    page = open_page(path, width=360)
    if path == "/docs":
        expect(page.locator(".opblock").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_drawn_under_the_policy(open_page, scheme):
    page = open_page("/report", javascript=False)
    page.emulate_media(color_scheme=scheme)
    expect(page.get_by_role("heading", level=1)).to_have_text("What is bought together")
    chart = page.get_by_role("img", name="Baskets by number of products")
    assert chart.bounding_box()["height"] > 100
    accent = {"light": "rgb(29, 122, 87)", "dark": "rgb(79, 174, 136)"}[scheme]
    expect(chart.locator('[fill="var(--left)"]').first).to_have_css("fill", accent)
    numbers = page.get_by_role("table", name="Baskets by number of products")
    expect(numbers).to_be_hidden()
    page.get_by_text("The numbers").first.click()
    expect(numbers).to_be_visible()
    expect(page.locator("main img")).to_have_count(0)
    expect(page.get_by_role("cell", name=ODD["<i>7</i>"]).first).to_be_visible()


def test_docs_show_every_operation_and_try_them_out(open_page, address):
    page = open_page("/docs")
    with urllib.request.urlopen(f"{address}/openapi.json") as response:
        operations = sum(len(path) for path in json.load(response)["paths"].values())
    assert operations > 3
    expect(page.locator(".opblock")).to_have_count(operations)
    operation = page.locator(".opblock", has=page.get_by_text("/v1/products", exact=True))
    operation.get_by_role("button").first.click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_placeholder("query").fill("spaghetti")
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table tbody")
    expect(answer).to_contain_text("200")
    expect(answer).to_contain_text('"product_id": "5010"')
