"""Pairs counted by a scheduler and two workers, which live, die, and talk over a network.

Each is a program of its own: on 127.0.0.1, and, where this user may make them, in three network
namespaces with addresses of their own, as three machines that share the folder of the lake.
"""

import os
import random
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import distributed
import pytest
import trustme

from bought_together import dask_tasks
from bought_together.errors import CannotRun
from bought_together.ingest.run import flatten
from bought_together.pairs.run import count_pairs
from tests.support.cluster import Host, dask, scheduler, scheduler_process
from tests.support.processes import PATIENCE, QUICK_POLL, assert_one_line, program, start
from tests.support.shop import Shop

BLOCK_SIZE = 4096  # bytes: about a hundred and fifty parts
COUNT = program("count_pairs")
RECOMMENDATIONS = 5
KEYS = {
    "products": ["product_number"],
    "basket_sizes": ["file_number", "product_count"],
    "oversized_baskets": ["order_id"],
    "product_pairs": ["left_product_number", "right_product_number"],
    "shortlist": ["product_number", "recommended_product_key"],
}


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def namespaces(count: int) -> Iterator[list[Host]]:
    """Make network namespaces on one bridge; what runs in one has an address of its own."""
    mine = f"bt{os.getpid()}"
    subnet = f"10.213.{os.getpid() % 250}"
    with ExitStack() as stack:
        stack.callback(subprocess.run, ["ip", "link", "del", mine], capture_output=True)
        ip("link", "add", mine, "type", "bridge")
        ip("addr", "add", f"{subnet}.1/24", "dev", mine)
        ip("link", "set", mine, "up")
        hosts = []
        for number in range(count):
            name = f"{mine}n{number}"
            stack.callback(subprocess.run, ["ip", "netns", "del", name], capture_output=True)
            ip("netns", "add", name)
            ip(
                "link",
                "add",
                f"{mine}v{number}",
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                name,
            )
            ip("link", "set", f"{mine}v{number}", "master", mine, "up")
            ip("-n", name, "addr", "add", f"{subnet}.{number + 2}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            hosts.append(Host(f"{subnet}.{number + 2}", ("ip", "netns", "exec", name)))
        yield hosts


@pytest.fixture(params=["one machine", "three machines"])
def hosts(request: pytest.FixtureRequest) -> Iterator[list[Host]]:
    """Where the scheduler and the two workers run."""
    if request.param == "one machine":
        yield [Host()] * 3
        return
    if not shutil.which("ip"):
        pytest.skip("the program ip (iproute2) is not installed: no network namespaces")
    try:
        with namespaces(3) as made:
            yield made
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this user may not make network namespaces: {error.stderr.strip()}")


class Cluster(NamedTuple):
    """A scheduler and two workers of one thread each."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


@pytest.fixture
def two_workers(hosts: list[Host], tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    with ExitStack() as stack:
        address, process = stack.enter_context(scheduler_process(folder, host=hosts[0]))
        options = [address, "--no-nanny", "--nthreads", 1, "--memory-limit", "2GB"]
        workers = [
            stack.enter_context(dask(folder, "worker", *options, host=host)) for host in hosts[1:]
        ]
        with distributed.Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=PATIENCE)
        yield Cluster(address, process, workers)


@pytest.fixture
def counted(shop: Shop) -> Shop:
    """A shop of many parts, its pairs counted by this machine's threads."""
    chance = random.Random(7)
    baskets = [
        [f"p{int(300 * chance.random() ** 2):03}" for _ in range(chance.randrange(9))]
        for _ in range(3000)
    ]
    shop.write(baskets, [f"p{number:03}" for number in range(300)])
    flatten(str(shop.transactions), str(shop.products), str(shop.lake), block_size=BLOCK_SIZE)
    count_pairs(str(shop.lake))
    return shop


def tables(shop: Shop) -> dict[str, list[dict[str, Any]]]:
    """Return the tables of a count; of the shortlist the best alone: each task keeps its own."""
    found = {
        name: shop.counted_table(name).sort_by([(key, "ascending") for key in keys]).to_pylist()
        for name, keys in KEYS.items()
    }
    ranked = sorted(
        found["shortlist"],
        key=lambda row: (
            row["product_number"],
            -row["copurchase_count"],
            row["recommended_product_key"],
        ),
    )
    kept: Counter[int] = Counter()
    found["shortlist"] = []
    for row in ranked:
        kept[row["product_number"]] += 1
        if kept[row["product_number"]] <= RECOMMENDATIONS:
            found["shortlist"].append(row)
    return found


def pointer(shop: Shop) -> str:
    return (shop.run_folder / "pairs.json").read_text()


def numbered_parts(shop: Shop) -> list[Path]:
    """Return what a count under way has got to: parts whose products have their numbers."""
    return list(shop.run_folder.glob("pairs-*/work/numbered-*.arrow"))


def once(condition: Callable[[], object], running: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert running(), "the count ended before"
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(QUICK_POLL)


def test_two_workers_count_the_same(counted: Shop, two_workers: Cluster) -> None:
    expected, before = tables(counted), pointer(counted)
    finished = counted.run(
        "count_pairs", "--largest-chunk", 2000, DASK_SCHEDULER=two_workers.address
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    assert "2 threads, 6 chunks of baskets" in finished.stdout
    assert pointer(counted) != before
    assert tables(counted) == expected


def test_a_worker_killed_in_the_middle_changes_nothing(counted: Shop, two_workers: Cluster) -> None:
    expected, before = tables(counted), pointer(counted)
    counting = start(counted, COUNT, DASK_SCHEDULER=two_workers.address)
    once(lambda: numbered_parts(counted), lambda: counting.poll() is None)
    two_workers.workers[0].kill()
    assert counting.poll() is None
    assert counting.wait(PATIENCE) == 0
    assert pointer(counted) != before
    assert tables(counted) == expected


def test_when_no_worker_is_left_it_is_one_line(
    counted: Shop, two_workers: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a minute as it is, and sooner here; what was counted before stands."""
    monkeypatch.setattr(dask_tasks, "WORKER_SECONDS", 1)
    expected, before = tables(counted), pointer(counted)
    finished = threading.Event()

    def kill() -> None:
        once(lambda: numbered_parts(counted), lambda: not finished.is_set())
        for worker in two_workers.workers:
            worker.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(CannotRun, match=r"the Dask scheduler at \S+ has lost all its workers"):
            count_pairs(str(counted.lake), two_workers.address)
    finally:
        finished.set()
        killer.join()
    assert pointer(counted) == before
    assert tables(counted) == expected
    assert len(list(counted.run_folder.glob("pairs-*"))) == 1


def test_a_scheduler_killed_in_the_middle_is_one_line(
    counted: Shop, two_workers: Cluster, tmp_path: Path
) -> None:
    before = pointer(counted)
    with (tmp_path / "stderr").open("wb") as stderr:
        counting = subprocess.Popen(
            list(map(str, COUNT)),
            env=counted.environment(DASK_SCHEDULER=two_workers.address),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    once(lambda: numbered_parts(counted), lambda: counting.poll() is None)
    two_workers.scheduler.kill()
    assert counting.wait(PATIENCE) == 2
    told = (tmp_path / "stderr").read_text().splitlines()
    assert told[-1] == f"error: lost the Dask scheduler at {two_workers.address}"
    assert sum(line.startswith("error: ") for line in told) == 1
    assert "Traceback" not in " ".join(told)
    assert pointer(counted) == before


def test_no_scheduler_is_one_line(counted: Shop) -> None:
    before = pointer(counted)
    finished = counted.run("count_pairs", DASK_SCHEDULER="tcp://127.0.0.1:1")
    assert_one_line(finished, 2, "no Dask scheduler answers at tcp://127.0.0.1:1")
    assert pointer(counted) == before


def test_certificates_keep_strangers_out(
    counted: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TLS the same pairs; without a certificate, or with one of others, one line."""
    expected = tables(counted)
    ours, theirs = (write_certificates(tmp_path / name) for name in ("ours", "theirs"))
    folder = tmp_path / "cluster"
    folder.mkdir()
    with monkeypatch.context() as environment, ExitStack() as stack:
        for name, value in ours.items():
            environment.setenv(name, value)
        address = stack.enter_context(scheduler(folder, "--protocol", "tls"))
        assert address.startswith("tls://")
        worker = [address, "--protocol", "tls", "--no-nanny", "--nthreads", 1]
        stack.enter_context(dask(folder, "worker", *worker))
        known = counted.run("count_pairs", DASK_SCHEDULER=address, **ours)
        assert (known.returncode, known.stderr) == (0, "")
        assert tables(counted) == expected
        before = pointer(counted)
        unknown = counted.run("count_pairs", DASK_SCHEDULER=address, **theirs)
        assert_one_line(unknown, 2, address)
        bare = counted.run("count_pairs", DASK_SCHEDULER=address, **dict.fromkeys(ours, ""))
        assert_one_line(bare, 2, address)
        assert pointer(counted) == before


def write_certificates(folder: Path) -> dict[str, str]:
    """Make an authority and one certificate, and return the settings by which Dask uses them."""
    folder.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "own.pem")
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    own = {
        f"{tls}{role}__{kind}": str(folder / "own.pem")
        for role in ("SCHEDULER", "WORKER", "CLIENT")
        for kind in ("CERT", "KEY")
    }
    return own | {f"{tls}CA_FILE": str(folder / "ca.pem")}
