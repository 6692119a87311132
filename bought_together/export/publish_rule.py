"""Decide whether `dbt build` may publish: only if this build made and tested everything."""

from collections.abc import Mapping
from typing import Any

MARTS = (
    "product_recommendations",
    "products",
    "recommendation_evidence",
    "oversized_baskets",  # the next build continues from them
)
DONE = ("success", "pass", "warn")
NAMES_SHOWN = 5


def reason_not_to_publish(
    nodes: Mapping[str, Mapping[str, Any]],
    results: Mapping[str, Mapping[str, Any]],
    project: str,
    is_trial: bool,
) -> str:
    """Return the reason not to publish a build, in one line; empty when it may be published.

    `nodes` maps unique ids to the project's nodes (name, resource_type, package, materialized,
    depends_on), and `results` maps them to this invocation's results (status). A build may be
    published when the marts, all their upstream models and seeds, and all data tests on these ran
    in it, and nothing failed. Unit tests prove the code, not the data, and may be left out. Other
    packages do not matter.
    """
    if is_trial:
        return "a build with --empty or --sample is a trial"
    failed = [
        f"{node_name(nodes, unique_id)} ({result['status']})"
        for unique_id, result in results.items()
        if result["status"] not in (*DONE, "no-op")
    ]
    if failed:
        return listed(failed)
    done = {unique_id for unique_id, result in results.items() if result["status"] in DONE}
    missing = sorted(
        nodes[unique_id]["name"] for unique_id in vouching_nodes(nodes, project) - done
    )
    if missing:
        return f"this build left out {listed(missing)}"
    return ""


def vouching_nodes(nodes: Mapping[str, Mapping[str, Any]], project: str) -> set[str]:
    """Return the ids of the marts, all their upstream nodes, and all data tests on these.

    An ephemeral model is a part of the models that read it, and does not run.
    """
    ours = {unique_id: node for unique_id, node in nodes.items() if node["package"] == project}
    upstream: set[str] = set()
    to_visit = [unique_id for unique_id, node in ours.items() if node["name"] in MARTS]
    while to_visit:
        unique_id = to_visit.pop()
        if unique_id in ours and unique_id not in upstream:
            upstream.add(unique_id)
            to_visit += ours[unique_id]["depends_on"]
    tests = {
        unique_id
        for unique_id, node in ours.items()
        if node["resource_type"] == "test" and not upstream.isdisjoint(node["depends_on"])
    }
    ran = {each for each in upstream if ours[each].get("materialized") != "ephemeral"}
    return ran | tests


def node_name(nodes: Mapping[str, Mapping[str, Any]], unique_id: str) -> str:
    return nodes[unique_id]["name"] if unique_id in nodes else unique_id.split(".")[-1]


def listed(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
