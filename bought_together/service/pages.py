"""The storefront and the API's documentation page, in HTML.

Every page of the storefront works without JavaScript, and its links carry the basket. A product's
address is /product?id=..., since ids are arbitrary text, and browsers remove dots and slashes from
a path even when encoded.
"""

from collections.abc import Callable, Container, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from bought_together.service.api import answers_of, current_version
from bought_together.service.backends import Unavailable, Version
from bought_together.service.baskets import DEFAULT_LIMIT, basket_of
from bought_together.service.carried_basket import carried_basket
from bought_together.service.error_responses import RETRY_AFTER_SECONDS

MAX_HOME = 12
MAX_RESULTS = 50
MAX_QUERY = 200  # characters; the rest of a query is ignored
DOCS_ASSETS = frozenset({"swagger-ui-bundle.js", "swagger-ui.css"})
LESS_THAN_ONE = "less than 1\N{NO-BREAK SPACE}%"
REMARKS = {
    "pinned": "chosen by the shop",
    "category": "bought with products of this category",
    "bestseller": "best seller",
    "one basket": "one basket only",
    "weak": "may be chance",
}
# An answer that an older program has published to Redis says nothing of these.
UNKNOWN_EVIDENCE = {"recommendation_source": "copurchase", "confidence": None, "evidence": None}
CACHE_PAGES = {"Cache-Control": "no-cache"}
CACHE_ASSETS = {"Cache-Control": "public, max-age=3600"}


class Page(APIRoute):
    """A route that answers in HTML when there is no data to answer from."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except Unavailable:
                headers = {"Retry-After": str(RETRY_AFTER_SECONDS), "Cache-Control": "no-store"}
                return render(request, "unavailable.html", 503, headers)

        return handle


class Assets(StaticFiles):
    """Files that a browser may cache for an hour: all files of a folder, or those in `only`."""

    def __init__(self, *, only: Container[str] | None = None, **where: Any) -> None:
        super().__init__(**where)
        self.only = only

    async def get_response(self, path: str, scope: Scope) -> Response:
        # One name in the metrics for all files.
        scope["route_path"] = scope["root_path"].removeprefix(scope["app_root_path"])
        if self.only is not None and path not in self.only:
            raise HTTPException(404)
        response = await super().get_response(path, scope)
        response.headers.update(CACHE_ASSETS)
        return response


storefront = APIRouter(route_class=Page, include_in_schema=False)


def name_of(product: dict[str, Any]) -> str:
    """Return a product's name, or its id if it has no name."""
    name, product_id = product["product_name"] or "", product["product_id"]
    return name.strip() or product_id.strip() or "Product without a name"


def address_of(product: dict[str, Any]) -> str:
    """Return the address of a product's page, without the path that a proxy strips."""
    return f"/product?id={quote(product['product_id'], safe='')}"


def in_words(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def percent(share: float) -> str:
    """Return a share in whole percent, with a space that does not break."""
    return f"{share * 100:.0f}\N{NO-BREAK SPACE}%" if share >= 0.01 else LESS_THAN_ONE


def remark(recommendation: dict[str, Any]) -> str:
    """Return why a recommendation is there, or how little speaks for it; empty for a clear one."""
    source, evidence = recommendation["recommendation_source"], recommendation["evidence"]
    return REMARKS.get(source) or REMARKS.get(evidence, "")


templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
templates.filters |= {
    each.__name__: each for each in (name_of, address_of, in_words, percent, remark)
}
templates.globals |= {"MAX_QUERY": MAX_QUERY}


def render(
    request: Request,
    template: str,
    status: int = 200,
    headers: dict[str, str] = CACHE_PAGES,
    *,
    version: Version | None = None,
    **context: Any,
) -> Response:
    built_at = version.built_at if version else None
    always = {"root": request.scope["root_path"], "basket": carried_basket(request)}
    html = templates.get_template(template).render(always, built_at=built_at, **context)
    return Response(html, status, headers, media_type="text/html")


@storefront.get("/")
def home(request: Request, query: str = "") -> Response:
    """The search; without a query, the products most often bought together with another."""
    version = current_version(request)
    query = query.strip()[:MAX_QUERY]
    if not query:
        best = version.catalogue.search("", MAX_HOME)
        return render(request, "home.html", version=version, products=best)
    found = version.catalogue.search(query, MAX_RESULTS + 1)
    return render(
        request,
        "results.html",
        version=version,
        query=query,
        products=found[:MAX_RESULTS],
        there_are_more=len(found) > MAX_RESULTS,
    )


@storefront.get("/product")
async def product(request: Request, product_id: Annotated[str, Query(alias="id")] = "") -> Response:
    """The recommendations of one product; 404 for an unknown one."""
    version = current_version(request)
    row = version.catalogue.rows.get(product_id)
    if row is None:
        return render(request, "missing.html", 404, version=version, product_id=product_id)
    (encoded,) = await answers_of(version, [product_id], None)
    answer = orjson.loads(encoded)
    answer["recommendations"] = [UNKNOWN_EVIDENCE | other for other in answer["recommendations"]]
    answer["category_code"] = version.catalogue.table["category_code"][row].as_py()
    return render(request, "product.html", version=version, product=answer)


@storefront.get("/basket")
async def basket_page(request: Request) -> Response:
    """The basket in the address, and what to add to it; ids that are unknown are named."""
    version = current_version(request)
    product_ids = carried_basket(request).product_ids
    answer = await basket_of(version, product_ids, DEFAULT_LIMIT)
    rows = [version.catalogue.rows[product_id] for product_id in answer["product_ids"]]
    products = version.catalogue.products_at(rows)
    return render(request, "basket.html", version=version, products=products, answer=answer)


@storefront.get("/report")
async def report_page(request: Request) -> Response:
    """The report on the build that is served; 404 where `make report` has not written one.

    The file has its style inside. The policy allows no inline style, so a browser gets it apart.
    """
    version = current_version(request)
    page = await request.app.state.backend.report(version)
    if page is None:
        return render(request, "no_report.html", 404, version=version, build=version.name)
    before, _, after = split_report(page)
    link = f'<link rel="stylesheet" href="{request.scope["root_path"]}/report.css">'
    return Response(before + link + after, 200, CACHE_PAGES, media_type="text/html")


@storefront.get("/report.css")
async def report_style(request: Request) -> Response:
    """The style of the report, from the same file."""
    page = await request.app.state.backend.report(current_version(request))
    _, style, _ = split_report(page or "")
    return Response(style, 200 if page else 404, CACHE_PAGES, media_type="text/css")


def split_report(page: str) -> tuple[str, str, str]:
    """Return what stands before the page's style, the style, and what stands after it."""
    before, _, rest = page.partition("<style>")
    style, _, after = rest.partition("</style>")
    return before, style, after


@storefront.get("/docs")
async def docs(request: Request) -> Response:
    """The API's documentation: Swagger UI over /openapi.json."""
    return render(request, "docs.html")
