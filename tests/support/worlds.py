"""Small shops full of ties, drawn from a seed."""

import random

Lines = list[dict[str, object]]


def small_world(seed: int) -> tuple[list[Lines], list[str]]:
    """Return a small shop, its ids starting with its number: records' lines, listed products.

    Few products and many baskets make ties frequent; some products are not in the list, some
    lines repeat, are returns, or do not say how many.
    """
    chance = random.Random(seed)
    names = ["a", "B", "é", "0", "01", "z z", "€", "b", "'", "😀"]
    ids = [f"{seed:03}:{name}" for name in chance.sample(names, chance.randint(1, len(names)))]
    records = [
        [
            {"item": chance.choice(ids), "quantity": chance.choice([1, 1, 1, 2.5, None, 0, -1])}
            for _ in range(chance.randint(0, 9))
        ]
        for _ in range(chance.randint(1, 12))
    ]
    return records, [product for product in ids if chance.random() < 0.8]
