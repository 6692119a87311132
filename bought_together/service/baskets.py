"""The JSON API's answer for a whole basket."""

import re
from typing import Annotated, Any
from urllib.parse import parse_qsl

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from bought_together.export.basket import DEFAULT_LIMIT, basket_answer
from bought_together.service.api import (
    MAX_LIMIT,
    NOT_MODIFIED,
    UNAVAILABLE,
    Recommendation,
    answers_of,
    cacheable,
    current_version,
)
from bought_together.service.backends import Unavailable, Version

BASKET_PATH = "/v1/basket"
MAX_BASKET = 100
PLAIN_LIMIT = re.compile(r"[1-9][0-9]{0,2}")

basket_api = APIRouter()


class Reason(BaseModel):
    product_id: str
    product_name: str | None = Field(description="Null for a product outside the product list.")


class BasketRecommendation(Recommendation):
    copurchase_count: int = Field(description="Number of baskets with it and `because_of`.")
    confidence: float = Field(description="The share of the baskets with `because_of` it is in.")
    because_of: Reason = Field(description="The product of the basket that recommends it most.")


class BasketRecommendations(BaseModel):
    product_ids: list[str] = Field(description="The products of the basket, each once.")
    unknown_product_ids: list[str] = Field(description="Ids without a product; they are ignored.")
    recommendations: list[BasketRecommendation]


async def basket_of(version: Version, product_ids: list[str], limit: int) -> dict[str, Any]:
    """Return the answer for a basket, with one request to the backend; raises Unavailable."""
    catalogue = version.catalogue
    if not catalogue.has_basket_counts:
        raise Unavailable(f"{version.name} was published without basket counts: publish it again")
    distinct = list(dict.fromkeys(product_ids))
    known = [product_id for product_id in distinct if product_id in catalogue.rows]
    unknown = [product_id for product_id in distinct if product_id not in catalogue.rows]
    encoded = await answers_of(version, known, None) if known else []
    return basket_answer(map(orjson.loads, encoded), unknown, catalogue.basket_count_of, limit)


@basket_api.get(
    BASKET_PATH,
    response_model=BasketRecommendations,
    responses=NOT_MODIFIED | UNAVAILABLE,
    summary="Recommendations for a whole basket",
)
async def basket(
    request: Request,
    product_id: Annotated[
        list[str],
        Query(min_length=1, max_length=MAX_BASKET, description="Repeat it for each product."),
    ],
    limit: Annotated[
        int, Query(ge=1, le=MAX_LIMIT, description="Return at most this many, best first.")
    ] = DEFAULT_LIMIT,
) -> Response:
    """What to add to these products, by the highest confidence; none of them is in the list.

    The list is empty when no product of the basket has recommendations, or none is known.
    """
    version = current_version(request)
    answer = await basket_of(version, product_id, limit)
    return cacheable(request, version, orjson.dumps(answer))


def plain_basket(query: bytes) -> tuple[list[str], int] | None:
    """Return the parameters of a frequent and certainly valid request, None for any other."""
    found = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    product_ids = [value for name, value in found if name == "product_id"]
    others = [(name, value) for name, value in found if name != "product_id"]
    if not 1 <= len(product_ids) <= MAX_BASKET or len(others) > 1:
        return None
    if not others:
        return product_ids, DEFAULT_LIMIT
    ((name, value),) = others
    is_plain = name == "limit" and PLAIN_LIMIT.fullmatch(value)
    return (product_ids, int(value)) if is_plain else None
