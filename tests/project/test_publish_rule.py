"""A build is published only when it made and tested all that the marts rest on."""

from typing import Any

import pytest

from bought_together.export.publish_rule import reason_not_to_publish

OURS = "shop"
# Name: (kind, what it depends on).
PROJECT = {
    "excluded": ("seed", []),
    "stg_lines": ("model", []),
    "int_pairs": ("model", ["excluded", "stg_lines"]),
    "products": ("model", ["stg_lines"]),
    "product_recommendations": ("model", ["int_pairs", "products"]),
    "changes": ("model", ["product_recommendations"]),
    "seed_is_unique": ("test", ["excluded"]),
    "lines_exist": ("test", ["stg_lines"]),
    "pairs_conserved": ("test", ["int_pairs"]),
    "ranks_dense": ("test", ["product_recommendations", "products"]),
    "changes_known": ("test", ["changes"]),
}
KINDS = {name: kind for name, (kind, _) in PROJECT.items()}


def node_id(name: str) -> str:
    return f"{KINDS.get(name, 'model')}.{OURS}.{name}"


NODES = {
    node_id(name): {
        "name": name,
        "resource_type": kind,
        "package": OURS,
        "depends_on": [node_id(parent) for parent in parents],
    }
    for name, (kind, parents) in PROJECT.items()
}
OF_ANOTHER = {
    f"{kind}.audit.{name}": {
        "name": name,
        "resource_type": kind,
        "package": "audit",
        "depends_on": parents,
    }
    for kind, name, parents in [
        ("model", "audit_log", []),
        ("model", "products", []),
        ("test", "audit_log_unique", ["model.audit.audit_log"]),
        ("test", "recommendations_audited", [node_id("product_recommendations")]),
    ]
}


def results(without: tuple[str, ...] = (), **statuses: str) -> dict[str, dict[str, Any]]:
    """Return the results of a whole build, but for what was left out or ended otherwise."""
    found = {}
    for name, kind in KINDS.items():
        status = statuses.get(name, "pass" if kind == "test" else "success")
        if name not in without:
            found[node_id(name)] = {"status": status}
    return found


def reason(found: dict[str, dict[str, Any]], is_trial: bool = False, **others: Any) -> str:
    return reason_not_to_publish(NODES | others, found, OURS, is_trial)


def test_a_whole_build_may_be_published() -> None:
    assert reason(results()) == ""


NOT_PUBLISHED = {
    "seed": (results(("excluded",)), "this build left out excluded"),
    "seed-of-kind": (
        results(("excluded", "seed_is_unique")),
        "this build left out excluded, seed_is_unique",
    ),
    "upstream-view": (results(("stg_lines",)), "this build left out stg_lines"),
    "upstream-table": (results(("int_pairs",)), "this build left out int_pairs"),
    "mart": (results(("products",)), "this build left out products"),
    "test-of-mart": (results(("ranks_dense",)), "this build left out ranks_dense"),
    "test-of-upstream": (results(("lines_exist",)), "this build left out lines_exist"),
    "test-of-seed": (results(("seed_is_unique",)), "this build left out seed_is_unique"),
    "no-op-model": (results(int_pairs="no-op"), "this build left out int_pairs"),
    "no-op-test": (results(ranks_dense="no-op"), "this build left out ranks_dense"),
    "failed-test": (results(ranks_dense="fail"), "ranks_dense (fail)"),
    "broken-test": (results(ranks_dense="error"), "ranks_dense (error)"),
    "failed-model": (
        results(int_pairs="error", product_recommendations="skipped"),
        "int_pairs (error), product_recommendations (skipped)",
    ),
    "skipped-model": (results(products="skipped"), "products (skipped)"),
    "partial-model": (results(products="partial success"), "products (partial success)"),
    "failed-outside": (results(changes_known="fail"), "changes_known (fail)"),
    "nothing": (
        {},
        "this build left out excluded, int_pairs, lines_exist, pairs_conserved,"
        " product_recommendations and 4 more",
    ),
}


@pytest.mark.parametrize(("found", "told"), NOT_PUBLISHED.values(), ids=NOT_PUBLISHED)
def test_what_failed_or_was_left_out_is_the_reason(
    found: dict[str, dict[str, Any]], told: str
) -> None:
    assert reason(found) == told


MAY_BE_LEFT_OUT = {
    "warning": results(ranks_dense="warn", seed_is_unique="warn"),
    "downstream": results(("changes", "changes_known")),
    "no-op-downstream": results(changes="no-op"),
}


@pytest.mark.parametrize("found", MAY_BE_LEFT_OUT.values(), ids=MAY_BE_LEFT_OUT)
def test_a_warning_or_what_the_marts_do_not_rest_on_stops_no_build(
    found: dict[str, dict[str, Any]],
) -> None:
    assert reason(found) == ""


def test_unit_tests_do_not_matter_unless_they_fail() -> None:
    """dbt has them in no graph, only among the results of a build that ran them."""
    unit_test = f"unit_test.{OURS}.int_pairs.counts_each_basket_once"
    assert reason(results() | {unit_test: {"status": "pass"}}) == ""
    told = reason(results() | {unit_test: {"status": "fail"}})
    assert told == "counts_each_basket_once (fail)"


def test_other_packages_do_not_matter_unless_they_fail() -> None:
    assert reason(results(), **OF_ANOTHER) == ""
    ran = {unique_id: {"status": "success"} for unique_id in OF_ANOTHER}
    assert reason(results() | ran, **OF_ANOTHER) == ""
    assert reason(results(("products",)) | ran, **OF_ANOTHER) == "this build left out products"
    ran["test.audit.audit_log_unique"] = {"status": "fail"}
    assert reason(results() | ran, **OF_ANOTHER) == "audit_log_unique (fail)"


def test_a_trial_is_never_published() -> None:
    assert reason(results(), is_trial=True) == "a build with --empty or --sample is a trial"
