"""Run independent tasks with Dask: on this machine's threads, or on a cluster."""

import asyncio
import logging
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from operator import call
from typing import Any, NamedTuple

import dask
from dask.diagnostics import ProgressBar
from dask.system import CPU_COUNT

import bought_together
from bought_together.errors import CannotRun, describe
from bought_together.storage.warehouse import current_memory_limit, duckdb_limits

SCHEDULER_SECONDS = 8
WORKER_SECONDS = 30
POLL_SECONDS = 1
# The share of a worker's limit that tasks use; Dask pauses a worker at 80 %.
MEMORY_SHARE = 0.7
# Memory that Python and the libraries take.
PROGRAM_BYTES = 300_000_000
# Assumed for a worker without a limit, since it may share its machine with others.
UNLIMITED_WORKER_BYTES = 4_000_000_000


class Resources(NamedTuple):
    """The threads of all workers, and the memory in bytes that each thread may use."""

    threads: int
    memory: int


@contextmanager
def connected(scheduler: str | None, workers: int = 1) -> Iterator[Any]:
    """Yield a distributed Client of the scheduler at this address; None means local threads.

    Waits for `workers` workers, because a cluster may still be starting. Raises CannotRun when no
    scheduler answers, or when there are too few workers after WORKER_SECONDS.
    """
    if not scheduler:
        yield None
        return
    import cloudpickle
    import distributed

    # Send this package with the tasks, subpackages included: workers need only the libraries.
    cloudpickle.register_pickle_by_value(bought_together)
    try:
        asyncio.run(check_connection(scheduler))
        # A lost scheduler is reported in one line, without the client's call stack.
        for logger in ("distributed.client", "distributed.batched"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        client = distributed.Client(scheduler, timeout=SCHEDULER_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise CannotRun(f"no Dask scheduler answers at {scheduler}: {describe(error)}") from error
    with client:
        try:
            client.wait_for_workers(workers, timeout=WORKER_SECONDS)
        except TimeoutError as error:
            found = len(client.nthreads()) or "no"
            wanted = f" of the {workers} that DASK_WORKERS asks for" if workers > 1 else ""
            raise CannotRun(
                f"the Dask scheduler at {scheduler} has {found} worker{wanted}"
            ) from error
        if sys.stderr.isatty():
            print(f"cluster    {scheduler}, dashboard {client.dashboard_link}", file=sys.stderr)
        yield client


async def check_connection(scheduler: str) -> None:
    """Connect once and close; raises OSError, ValueError or TypeError.

    A Client whose first connection fails prints a call stack when it is garbage-collected.
    """
    from distributed import Security
    from distributed.comm import connect

    arguments = Security().get_connection_args("client")
    comm = await connect(scheduler, timeout=SCHEDULER_SECONDS, **arguments)
    await comm.close()


def run_tasks(function: Callable[[Any], Any], arguments: Sequence[Any], client: Any) -> list[Any]:
    """Return `function(argument)` for each argument, in order, and show progress on a terminal.

    Raises CannotRun when the cluster loses the scheduler, all workers, or a task for good.
    """
    show = sys.stderr.isatty()
    if client is None:
        tasks = [dask.delayed(function, traverse=False)(argument) for argument in arguments]
        with ProgressBar(out=sys.stderr) if show else nullcontext():
            return list(dask.compute(*tasks, scheduler="threads"))
    import cloudpickle
    from distributed import KilledWorker, progress
    from distributed.client import FutureCancelledError, FuturesCancelledError

    # Pickle here, by value: the scheduler and the workers have none of these modules.
    task = client.submit(pickle.loads, cloudpickle.dumps(function), pure=False)
    packed = [cloudpickle.dumps(argument) for argument in arguments]
    loaded = client.map(pickle.loads, packed, pure=False)
    futures = client.map(call, [task] * len(loaded), loaded, pure=False)
    if show:
        progress(futures, notebook=False)
    try:
        wait_for(futures, client)
        return client.gather(futures)
    except FuturesCancelledError as error:
        raise lost_scheduler(client) from error
    except (KilledWorker, FutureCancelledError) as error:
        raise CannotRun(f"the Dask cluster lost a task for good: {describe(error)}") from error


def wait_for(futures: list[Any], client: Any) -> None:
    """Wait until all futures are done or one has failed.

    Raises CannotRun when the scheduler is gone, or no worker has been left for WORKER_SECONDS.
    """
    import distributed

    last_seen = time.monotonic()
    while not any(future.status == "error" for future in futures):
        with suppress(TimeoutError), client.as_current():
            distributed.wait(futures, timeout=POLL_SECONDS)
            return
        try:
            workers = client.nthreads()
        except OSError as error:
            raise lost_scheduler(client) from error
        if workers:
            last_seen = time.monotonic()
        elif time.monotonic() - last_seen > WORKER_SECONDS:
            raise CannotRun(
                f"the Dask scheduler at {client.scheduler.address} has lost all its workers"
            )


def lost_scheduler(client: Any) -> CannotRun:
    return CannotRun(f"lost the Dask scheduler at {client.scheduler.address}")


def resources(client: Any) -> Resources:
    """Return the threads and memory of this machine or of the cluster.

    The memory is that of the worker with the least per thread. Raises CannotRun when the cluster
    has no worker.
    """
    if client is None:
        return Resources(CPU_COUNT, (local_memory() - PROGRAM_BYTES) // CPU_COUNT)
    try:
        workers = client.scheduler_info()["workers"].values()
    except OSError as error:
        raise lost_scheduler(client) from error
    if not workers:
        raise CannotRun(
            f"the Dask scheduler at {client.scheduler.address} has lost all its workers"
        )
    memory = min(
        int((worker["memory_limit"] or UNLIMITED_WORKER_BYTES) * MEMORY_SHARE - PROGRAM_BYTES)
        // worker["nthreads"]
        for worker in workers
    )
    return Resources(sum(worker["nthreads"] for worker in workers), memory)


def local_memory() -> int:
    """Return DuckDB's memory limit in bytes: DUCKDB_MEMORY_LIMIT, or 80 % of the container's."""
    return current_memory_limit(duckdb_limits(os.environ).get("memory_limit"))
