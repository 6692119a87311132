"""The storefront's basket: every address carries it in its query, as `basket=<id>&basket=<id>`.

So it needs neither cookies nor JavaScript, and whoever gets an address gets the basket.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request

from bought_together.service.baskets import MAX_BASKET


@dataclass(frozen=True)
class CarriedBasket:
    """A basket of distinct products, known or not; a page has hundreds of addresses with it."""

    parameters: dict[str, str]  # product id -> its part of the query

    @property
    def product_ids(self) -> list[str]:
        return list(self.parameters)

    @property
    def is_full(self) -> bool:
        return len(self.parameters) >= MAX_BASKET

    def plus(self, product_id: str) -> "CarriedBasket":
        return CarriedBasket(self.parameters | parameters_of([product_id]))

    def minus(self, *product_ids: str) -> "CarriedBasket":
        left = {one: part for one, part in self.parameters.items() if one not in product_ids}
        return CarriedBasket(left)

    def at(self, address: str) -> str:
        """Return the address of a page with this basket in its query."""
        if not self.parameters:
            return address
        return f"{address}{'&' if '?' in address else '?'}{'&'.join(self.parameters.values())}"


def parameters_of(product_ids: Iterable[str]) -> dict[str, str]:
    return {product_id: f"basket={quote(product_id, safe='')}" for product_id in product_ids}


def carried_basket(request: Request) -> CarriedBasket:
    """Return the basket in the query of a request, without what is beyond MAX_BASKET."""
    distinct = list(dict.fromkeys(request.query_params.getlist("basket")))
    return CarriedBasket(parameters_of(distinct[:MAX_BASKET]))
