"""The storefront and the page of the API's documentation: HTML for people to look at results.

Every page works without JavaScript. A product's address is always /product?id=..., since ids are
arbitrary text and a browser takes dots and slashes out of a path, however they are written.
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
from bought_together.service.error_responses import RETRY_SECONDS

MAX_HOME = 12
MAX_RESULTS = 50
MAX_QUERY = 200  # characters; what is beyond them is not looked for
DOCS_ASSETS = frozenset({"swagger-ui-bundle.js", "swagger-ui.css"})
CACHE_PAGES = {"Cache-Control": "no-cache"}
CACHE_ASSETS = {"Cache-Control": "public, max-age=3600"}


class Page(APIRoute):
    """A route that says in HTML, too, that there is nothing to answer from."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except Unavailable:
                headers = {"Retry-After": str(RETRY_SECONDS), "Cache-Control": "no-store"}
                return render("unavailable.html", 503, headers)

        return handle


class Assets(StaticFiles):
    """Files that a browser may hold for an hour; `only` these where not all of the folder."""

    def __init__(self, *, only: Container[str] | None = None, **where: Any) -> None:
        super().__init__(**where)
        self.only = only

    async def get_response(self, path: str, scope: Scope) -> Response:
        scope["route_path"] = scope["root_path"]  # what the metrics call all of these files
        if self.only is not None and path not in self.only:
            raise HTTPException(404)
        response = await super().get_response(path, scope)
        response.headers.update(CACHE_ASSETS)
        return response


storefront = APIRouter(route_class=Page, include_in_schema=False)


def name_of(product: dict[str, Any]) -> str:
    """Return what to call a product: its name, or its id where it has none."""
    name, product_id = product["product_name"] or "", product["product_id"]
    return name.strip() or product_id.strip() or "Product without a name"


def address_of(product: dict[str, Any]) -> str:
    return f"/product?id={quote(product['product_id'], safe='')}"


def in_words(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
templates.filters |= {"name_of": name_of, "address_of": address_of, "in_words": in_words}
templates.globals |= {"MAX_QUERY": MAX_QUERY}


def render(
    template: str,
    status: int = 200,
    headers: dict[str, str] = CACHE_PAGES,
    *,
    version: Version | None = None,
    **context: Any,
) -> Response:
    built_at = version.built_at if version else None
    html = templates.get_template(template).render(built_at=built_at, **context)
    return Response(html, status, headers, media_type="text/html")


@storefront.get("/")
def home(request: Request, query: str = "") -> Response:
    """The search; without a query, the products that were bought with another most often."""
    version = current_version(request)
    query = query.strip()[:MAX_QUERY]
    if not query:
        best = version.catalogue.search("", MAX_HOME)
        return render("home.html", version=version, products=best)
    found = version.catalogue.search(query, MAX_RESULTS + 1)
    return render(
        "results.html",
        version=version,
        query=query,
        products=found[:MAX_RESULTS],
        there_are_more=len(found) > MAX_RESULTS,
    )


@storefront.get("/product")
async def product(request: Request, product_id: Annotated[str, Query(alias="id")] = "") -> Response:
    """What was bought together with one product; 404 for one that there is not."""
    version = current_version(request)
    row = version.catalogue.rows.get(product_id)
    if row is None:
        return render("missing.html", 404, version=version, product_id=product_id)
    (encoded,) = await answers_of(version, [product_id], None)
    answer = orjson.loads(encoded)
    answer["category_code"] = version.catalogue.table["category_code"][row].as_py()
    return render("product.html", version=version, product=answer)


@storefront.get("/docs")
async def docs() -> Response:
    """The API's documentation, drawn by Swagger UI from /openapi.json."""
    return render("docs.html")
