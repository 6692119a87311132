"""The storefront's basket: every address carries it in its query, as `basket=<id>&basket=<id>`.

So it needs neither cookies nor JavaScript, and whoever gets an address gets the basket.
"""

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from starlette.requests import Request

from bought_together.service.baskets import MAX_BASKET


@dataclass(frozen=True)
class Basket:
    """Distinct product ids, known or not; at most MAX_BASKET."""

    product_ids: tuple[str, ...] = ()

    @property
    def is_full(self) -> bool:
        return len(self.product_ids) >= MAX_BASKET

    def plus(self, product_id: str) -> "Basket":
        return Basket((*self.product_ids, product_id))

    def minus(self, *product_ids: str) -> "Basket":
        return Basket(tuple(one for one in self.product_ids if one not in product_ids))

    def at(self, address: str) -> str:
        """Return the address of a page with this basket in its query."""
        if not self.product_ids:
            return address
        query = urlencode([("basket", one) for one in self.product_ids], quote_via=quote, safe="")
        return f"{address}{'&' if '?' in address else '?'}{query}"


def carried_basket(request: Request) -> Basket:
    """Return the basket in the query of a request, without what is beyond MAX_BASKET."""
    distinct = dict.fromkeys(request.query_params.getlist("basket"))
    return Basket(tuple(distinct)[:MAX_BASKET])
