"""Compare the answers of a running service with the published build of the lake."""

import http.client
import json
import time
import urllib.request
from itertools import zip_longest
from typing import Any
from urllib.parse import urlencode

from bought_together.errors import CannotRun, Refused
from bought_together.export.lookup import names_of, recommendations_of
from bought_together.export.read import Export, answer, data_age, data_age_in_words, read_export

PRODUCTS_A_REQUEST = 50
TIMEOUT_SECONDS = 10
RETRY_SECONDS = 0.5

Answer = dict[str, Any]


def expected_answers(lake_path: str, count: int) -> tuple[Export, list[Answer]]:
    """Return the lake's published build, and its answers for `count` products, evenly spread.

    Raises CannotRun when there is no export or it cannot be read.
    """
    export = read_export(lake_path)
    names = names_of(export)
    rows = list(recommendations_of(export).items())
    chosen = rows[:: max(1, -(-len(rows) // count))]
    expected = [
        answer(product_id, names.get(product_id), recommendations)
        for product_id, recommendations in chosen
    ]
    # An empty export still has this answer.
    return export, expected or [answer("no product at all", None, [])]


def refuse_old_data(export: Export, hours: int) -> None:
    """Raise Refused when the newest date of the data is older than so many hours."""
    seconds = data_age(export.newest_ordered_at)
    if seconds is not None and seconds > hours * 3600:
        age = data_age_in_words(export.newest_ordered_at)
        raise Refused(f"{export.version} has {age}, more than {hours}: check the input files")


def compare(url: str, version: str, expected: list[Answer], deadline: float) -> None:
    """Compare all expected answers with those of the service, some at a time.

    Until the deadline (of time.monotonic) it asks again when the service does not answer or serves
    another version. Raises CannotRun after the deadline, and Refused for an answer that differs.
    """
    if not url.startswith(("http://", "https://")):
        raise CannotRun(f"SERVICE_URL {url} is not an address like http://host:8000")
    url = url.rstrip("/")
    for start in range(0, len(expected), PRODUCTS_A_REQUEST):
        some = expected[start : start + PRODUCTS_A_REQUEST]
        for wanted, got in zip_longest(some, ask(url, version, some, deadline)):
            if wanted is None or wanted != got:
                raise Refused(
                    f"{url} and the lake differ on product {(wanted or got)['product_id']}:"
                    f" served {json.dumps(got, ensure_ascii=False)},"
                    f" expected {json.dumps(wanted, ensure_ascii=False)}"
                )


def ask(url: str, version: str, some: list[Answer], deadline: float) -> list[Answer]:
    """Return the service's answers for these products, from this version."""
    query = urlencode([("product_id", wanted["product_id"]) for wanted in some])
    while True:
        try:
            with urllib.request.urlopen(
                f"{url}/v1/recommendations?{query}", timeout=TIMEOUT_SECONDS
            ) as response:
                served = response.headers.get("X-Data-Version")
                if served == version:
                    return json.load(response)["products"]
                problem = f"serves version {served}, not {version}, the lake's published build"
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            problem = f"does not answer: {getattr(error, 'reason', None) or error}"
        if time.monotonic() > deadline:
            raise CannotRun(f"{url} {problem}")
        time.sleep(RETRY_SECONDS)
