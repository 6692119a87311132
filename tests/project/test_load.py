"""The measurements of the service: what they check of an answer, and what they come to."""

import asyncio
import subprocess
import sys
from copy import deepcopy

import pytest

from benchmarks.service.asking import Failed, Tally, ask, versions_in
from benchmarks.service.outcome import Run, bars_of, rows_of
from benchmarks.service.simulated import replace_export, version_of_name, write_version
from benchmarks.service.wrk import Load
from bought_together.export.lookup import names_of, recommendations_of
from bought_together.export.read import answer, read_export
from tests.support import ROOT

PRODUCTS = 1_000
SCRIPT = ROOT / "benchmarks/service/load.py"


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """The name and the answers of versions 1 and 2 of a simulated shop, by product."""
    lake = tmp_path_factory.mktemp("load") / "lake"
    found = []
    for number in (1, 2):
        replace_export(lake, write_version(lake, PRODUCTS, number))
        export = read_export(str(lake))
        names = names_of(export)
        answers = {
            product_id: answer(product_id, names[product_id], recommendations)
            for product_id, recommendations in recommendations_of(export).items()
        }
        found.append((export.version, answers))
    return found


class TestVersionsIn:
    asked = ("10000003", "10000500")

    def test_answers_of_one_version(self, versions):
        for number, (name, answers) in enumerate(versions, 1):
            of_two = [answers[product_id] for product_id in self.asked]
            assert version_of_name(name) == number
            assert versions_in(list(self.asked), name, of_two) == {number}

    @pytest.mark.parametrize("field", ["product_name", "category_code", "copurchase_count"])
    def test_a_field_of_another_version_shows(self, versions, field):
        (name, old), (_, new) = versions
        changed = deepcopy(old[self.asked[0]])
        changed["recommendations"][4][field] = new[self.asked[0]]["recommendations"][4][field]
        assert versions_in([self.asked[0]], name, [changed]) == {1, 2}

    def test_own_name_header_and_batch_show(self, versions):
        (old_name, old), (new_name, new) = versions
        first, second = self.asked
        renamed = old[first] | {"product_name": new[first]["product_name"]}
        assert versions_in([first], old_name, [renamed]) == {1, 2}
        assert versions_in([first], new_name, [old[first]]) == {1, 2}
        assert versions_in([first, second], old_name, [old[first], new[second]]) == {1, 2}

    def test_other_products_and_short_answers_fail(self, versions):
        (name, answers), _ = versions
        first, second = self.asked
        with pytest.raises(Failed, match="others"):
            versions_in([first], name, [answers[second]])
        with pytest.raises(Failed, match="not 5"):
            short = answers[first] | {"recommendations": answers[first]["recommendations"][:4]}
            versions_in([first], name, [short])


def test_a_client_counts_refused_connections_and_goes_on():
    tally, looks = Tally(), iter([False, False, False, True])
    asyncio.run(ask("http://127.0.0.1:1", range(100), tally, lambda: next(looks)))
    assert (tally.requests, tally.failed, tally.mixed) == (3, 3, 0)
    assert tally.histories == [[]]


def test_medians_ratio_and_bars():
    def run(speed, p99=15.0, failed=0):
        return Run(1.0, 100 * 2**20, 120 * 2**20, Load(speed, 2.0, p99, 30.0, failed, 0))

    rows = rows_of(
        {
            "in memory": ("bare", [run(700), run(900, failed=1), run(790)]),
            "bare": (None, [run(1000)]),
            "in memory, baskets": (None, [run(500, p99=22.5, failed=1)]),
        }
    )
    assert (rows[0].requests_per_second, rows[0].ratio, rows[0].errors) == (790, 0.79, 1)
    missed = [what for what, _, _, cleared in bars_of(rows) if not cleared]
    assert missed == [
        "in memory: of its bare minimum",
        "in memory: p99 ms",
        "in memory: errors",
        "in memory, baskets: p99 of one product's",
        "in memory, baskets: errors",
    ]


def test_without_wrk_one_line_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: wrk is not installed") and done.stderr.count("\n") == 1
