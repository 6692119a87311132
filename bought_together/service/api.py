"""The JSON API under /v1."""

import hashlib
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from bought_together.export.read import answer
from bought_together.service.backends import Unavailable, Version

CACHE_CONTROL = "public, max-age=60, stale-while-revalidate=60, stale-if-error=86400"
RECOMMENDATIONS_PATH = "/v1/products/{product_id:path}/recommendations"
MAX_LIMIT = 1_000
MAX_PRODUCTS = 50
MAX_SUGGESTIONS = 100

json_api = APIRouter()


class Recommendation(BaseModel):
    rank: int = Field(description="1 is the best.")
    product_id: str
    product_name: str
    category_code: str
    copurchase_count: int = Field(description="Number of baskets with both products.")
    recommendation_source: str = Field(
        description="copurchase, pinned (by a merchandiser), category or bestseller (where short)."
    )
    confidence: float | None = Field(
        description="Share of the product's baskets with both; null for one never bought."
    )
    lift: float | None = Field(description="How many times more often than by chance.")
    evidence: str | None = Field(
        description="How far to trust it: one basket, weak or clear; null unless from co-purchases."
    )


class Recommendations(BaseModel):
    product_id: str
    product_name: str | None = Field(description="Null for a product outside the product list.")
    recommendations: list[Recommendation]


class ManyRecommendations(BaseModel):
    products: list[Recommendations]


class Product(BaseModel):
    product_id: str
    product_name: str | None
    category_code: str | None


class Products(BaseModel):
    products: list[Product]


class Problem(BaseModel):
    detail: str


ProductId = Annotated[str, Path(description="An id of the product list; case matters.")]
Limit = Annotated[
    int | None,
    Query(ge=1, le=MAX_LIMIT, description="Return at most this many, best first; by default all."),
]
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "The client's copy is current (If-None-Match)."}
}
UNAVAILABLE: dict[int | str, dict[str, Any]] = {
    503: {"model": Problem, "description": "No data, or Redis is unavailable; see Retry-After."}
}


def current_version(request: Request) -> Version:
    version = request.app.state.backend.current
    if version is None:
        raise Unavailable("no recommendations have been published yet")
    return version


async def answers_of(version: Version, product_ids: list[str], limit: int | None) -> list[bytes]:
    """Return the encoded answer of each product, without recommendations for an unknown one."""
    found = await version.answers(product_ids)
    return [
        orjson.dumps(answer(product_id, None, [])) if encoded is None else shorten(encoded, limit)
        for product_id, encoded in zip(product_ids, found, strict=True)
    ]


def shorten(encoded: bytes, limit: int | None) -> bytes:
    if limit is None:
        return encoded
    content = orjson.loads(encoded)
    if len(content["recommendations"]) <= limit:
        return encoded
    return orjson.dumps(content | {"recommendations": content["recommendations"][:limit]})


def cacheable(request: Request, version: Version, body: bytes) -> Response:
    """Return JSON that a CDN may cache, or 304 if the client has the same."""
    etag = f'"{hashlib.blake2b(body, digest_size=8).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": CACHE_CONTROL, "X-Data-Version": version.name}
    if is_held(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def is_held(if_none_match: str | None, etag: str) -> bool:
    """Compare weakly, as in RFC 9110 (13.1.2): a proxy that compresses makes the tag weak."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags


@json_api.get(
    RECOMMENDATIONS_PATH,
    response_model=Recommendations,
    responses=NOT_MODIFIED | UNAVAILABLE,
    summary="Recommendations for one product",
)
async def recommendations(request: Request, product_id: ProductId, limit: Limit = None) -> Response:
    """The list is empty for an unknown product, and for one never bought with another."""
    version = current_version(request)
    (body,) = await answers_of(version, [product_id], limit)
    return cacheable(request, version, body)


@json_api.get(
    "/v1/recommendations",
    response_model=ManyRecommendations,
    responses=NOT_MODIFIED | UNAVAILABLE,
    summary="Recommendations for several products",
)
async def many_recommendations(
    request: Request,
    product_id: Annotated[
        list[str],
        Query(min_length=1, max_length=MAX_PRODUCTS, description="Repeat it for each product."),
    ],
    limit: Limit = None,
) -> Response:
    """Answers are in the order of the request; a repeated product has one answer."""
    version = current_version(request)
    found = await answers_of(version, list(dict.fromkeys(product_id)), limit)
    return cacheable(request, version, b'{"products":[' + b",".join(found) + b"]}")


@json_api.get(
    "/v1/products",
    response_model=Products,
    responses=UNAVAILABLE,
    summary="Search products by name or id",
)
def products(
    request: Request,
    query: Annotated[
        str, Query(max_length=200, description="Words, in any order; case does not matter.")
    ] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_SUGGESTIONS)] = 10,
) -> Response:
    """Without a query, it returns the products most often bought together with another."""
    version = current_version(request)
    found = version.catalogue.search(query, limit)
    return cacheable(request, version, orjson.dumps({"products": found}))
