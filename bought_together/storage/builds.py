"""The exports that `dbt build` publishes: one folder per build, and a pointer to the current one.

    published.json                                      the current build's manifest; moves last
    published/<build>/product_recommendations.parquet
    published/<build>/products.parquet
    published/<build>/recommendation_evidence.parquet
    published/<build>/run_results.json                  the models and tests that ran in this build
    published/<build>/state/                            what it counted (pairs/state.py)
    published/<build>/manifest.json                     written when the files above are complete
    published/<build>/quality.json                      what an evaluation has found, if any
    published/<build>/report.html                       the report for people, if any

Readers follow the pointer and need nothing else of the lake.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from bought_together.errors import CannotRun
from bought_together.storage.filesystem import (
    flush_tree,
    locate,
    only_warn,
    open_whole,
    remove_tree,
)
from bought_together.storage.lake import (
    MANIFEST,
    PUBLISHED,
    PUBLISHED_BUILD,
    UNFINISHED_RUN_KEPT,
    folders_in,
    prune,
    run_order,
)
from bought_together.storage.pointers import locked, move_pointer, read_json, write_json

RUN_RESULTS = "run_results.json"
REPORT = "report.html"
STATE = "state"
BUILDS_KEPT = 5
STATES_KEPT = 2
BUILD_TIME_FORMAT = "%Y%m%dT%H%M%SZ"

Manifest = dict[str, Any]


def build_path(lake_path: str, build: str) -> str:
    return f"{lake_path.rstrip('/')}/{PUBLISHED}/{build}"


def pointer_path(lake_path: str) -> str:
    return f"{lake_path.rstrip('/')}/{PUBLISHED_BUILD}"


def read_pointer(lake_path: str) -> Manifest | None:
    """Return the manifest of the current build, None when nothing is published yet."""
    return read_json(pointer_path(lake_path))


def complete_builds(lake_path: str) -> list[Manifest]:
    """Return the manifests of all complete builds, oldest first."""
    found = (
        read_json(f"{build_path(lake_path, build)}/{MANIFEST}")
        for build in build_folders(lake_path)
    )
    return sorted((manifest for manifest in found if manifest), key=age)


def age(manifest: Manifest) -> tuple[tuple[datetime, str], str]:
    """Return the sort key of builds: the run of the lake that they read, then their start."""
    return run_order(manifest["run"]), manifest["built_at"]


def newest_build(lake_path: str) -> Manifest | None:
    """Return the manifest of the newest complete build, which is not current after a rollback."""
    builds = complete_builds(lake_path)
    return builds[-1] if builds else None


def newer_than(lake_path: str, manifest: Manifest) -> str | None:
    """Return the id of the newest build if it is newer than this one, None otherwise."""
    newest = newest_build(lake_path)
    return newest["build"] if newest and age(newest) > age(manifest) else None


def make_published(lake_path: str, manifest: Manifest, run_results: Any) -> str | None:
    """Point readers to a build whose tables are written, and remove builds that are too old.

    Returns None, or the id of a newer build that was published in the meantime: the pointer then
    stays, and the build's folder goes.
    """
    folder = build_path(lake_path, manifest["build"])
    write_json(f"{folder}/{RUN_RESULTS}", run_results)
    flush_tree(folder)
    with locked(lake_path):
        write_json(f"{folder}/{MANIFEST}", manifest, durable=True)
        if move_pointer(
            pointer_path(lake_path), manifest, lambda _: newer_than(lake_path, manifest) is None
        ):
            newer = newer_than(lake_path, manifest)
            remove_tree(folder)
            return newer
        with only_warn("old builds could not be removed"):
            prune_builds(lake_path)
    return None


def add_to_build(lake_path: str, build: str, name: str, content: Any) -> str:
    """Write one JSON file beside the tables of a complete build, and return its path.

    No reader of the build needs it. Raises CannotRun when the build has been removed.
    """
    with keeping(lake_path, build) as folder:
        write_json(f"{folder}/{name}", content)
    return f"{folder}/{name}"


def add_report(lake_path: str, build: str, page: bytes) -> str:
    """Write the report beside the tables of a complete build, and return its path.

    Raises CannotRun when the build has been removed.
    """
    with keeping(lake_path, build) as folder, open_whole(f"{folder}/{REPORT}") as file:
        file.write(page)
    return f"{folder}/{REPORT}"


def read_report(lake_path: str, build: str) -> str | None:
    """Return the report on a build, None where nobody has written one."""
    fs, name = locate(f"{build_path(lake_path, build)}/{REPORT}")
    try:
        return fs.cat_file(name).decode()
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextmanager
def keeping(lake_path: str, build: str) -> Iterator[str]:
    """Yield the folder of a complete build, which is not pruned in the meantime.

    Raises CannotRun when the build has been removed.
    """
    folder = build_path(lake_path, build)
    with locked(lake_path):
        if read_json(f"{folder}/{MANIFEST}") is None:
            raise CannotRun(f"{lake_path} holds no build {build} any more")
        yield folder


def roll_back(lake_path: str, build: str | None = None) -> tuple[str, str]:
    """Point readers to `build`, by default the one before the current; return (left, current).

    Raises CannotRun when nothing is published or there is no such build.
    """
    current = read_pointer(lake_path)
    if current is None:
        raise CannotRun(f"nothing is published in {lake_path}: run `make build` first")
    with locked(lake_path):  # no build is pruned in the meantime
        target = build_to_roll_back_to(lake_path, current, build)
        move_pointer(pointer_path(lake_path), target, lambda _: True)
    return current["build"], target["build"]


def build_to_roll_back_to(lake_path: str, current: Manifest, build: str | None) -> Manifest:
    builds = complete_builds(lake_path)
    if build is None:
        before = [manifest for manifest in builds if age(manifest) < age(current)]
        if not before:
            raise CannotRun(f"{lake_path} holds no build before {current['build']}")
        return before[-1]
    named = [manifest for manifest in builds if manifest["build"] == build]
    if not named:
        held = ", ".join(manifest["build"] for manifest in builds)
        raise CannotRun(f"{lake_path} holds no build {build}; it holds {held}")
    return named[0]


def remove_all_older(lake_path: str) -> None:
    """Remove at once what neither the current run nor the current build needs."""
    with locked(lake_path):
        prune_builds(lake_path, builds_kept=1)
        prune(lake_path, runs_kept=1, refusals_kept=0)


def prune_builds(lake_path: str, builds_kept: int = BUILDS_KEPT) -> None:
    """Remove all but the newest `builds_kept` complete builds, and what killed builds left.

    The current build stays, and every build that started after it. Of the older builds, the newest
    STATES_KEPT keep their state.
    """
    current = read_pointer(lake_path)
    if current is None:
        return
    complete = [manifest["build"] for manifest in complete_builds(lake_path)]
    stale = min(datetime.now(UTC) - UNFINISHED_RUN_KEPT, build_time(current["build"]))
    leftovers = [
        build
        for build in build_folders(lake_path)
        if build not in complete and build_time(build) < stale
    ]
    removed = [build_path(lake_path, build) for build in (*complete[:-builds_kept], *leftovers)]
    removed += [f"{build_path(lake_path, build)}/{STATE}" for build in complete[:-STATES_KEPT]]
    ours = build_path(lake_path, current["build"])
    for folder in removed:
        if folder not in (ours, f"{ours}/{STATE}"):
            with suppress(FileNotFoundError):  # another build may be removing it too
                remove_tree(folder)


def build_folders(lake_path: str) -> list[str]:
    return folders_in(f"{lake_path.rstrip('/')}/{PUBLISHED}")


def build_time(build: str) -> datetime:
    """Return when a build started; the far future for a folder that no build made."""
    try:
        return datetime.strptime(build.split("-")[0], BUILD_TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
