"""Run independent tasks with Dask: on this machine's threads, or on a cluster."""

import asyncio
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from operator import call
from typing import Any

import dask
from dask.diagnostics import ProgressBar

from errors import CannotRun, describe

CONNECT_SECONDS = 8
WORKER_SECONDS = 30
# Workers need the libraries alone: these modules travel with the tasks.
TASK_MODULES = (
    "blocks",
    "columns",
    "errors",
    "ingest",
    "lake",
    "records",
    "rejects",
    "sources",
)


@contextmanager
def connected(scheduler: str | None) -> Iterator[Any]:
    """Yield a distributed Client for the scheduler's address, None for this machine's threads.

    Raises CannotRun when no scheduler answers, or when it has no worker.
    """
    if not scheduler:
        yield None
        return
    import cloudpickle
    import distributed

    for name in TASK_MODULES:
        cloudpickle.register_pickle_by_value(import_module(name))
    try:
        asyncio.run(greet(scheduler))
        client = distributed.Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise CannotRun(f"no Dask scheduler answers at {scheduler}: {describe(error)}") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError as error:
            raise CannotRun(f"the Dask scheduler at {scheduler} has no worker") from error
        yield client


async def greet(scheduler: str) -> None:
    """Connect once: a Client that cannot even try prints a call stack when it is collected."""
    from distributed import Security
    from distributed.comm import connect

    arguments = Security().get_connection_args("client")
    comm = await connect(scheduler, timeout=CONNECT_SECONDS, **arguments)
    await comm.close()


def run_tasks(function: Callable[[Any], Any], arguments: Sequence[Any], client: Any) -> list[Any]:
    """Return `function(argument)` for each argument, in order; shows progress on a terminal."""
    show = sys.stderr.isatty()
    if client is None:
        tasks = [dask.delayed(function, traverse=False)(argument) for argument in arguments]
        with ProgressBar(out=sys.stderr) if show else nullcontext():
            return list(dask.compute(*tasks, scheduler="threads"))
    import cloudpickle
    from distributed import KilledWorker, progress
    from distributed.client import FutureCancelledError

    # Pickled here, by value: the scheduler and the workers have none of these modules.
    task = client.submit(pickle.loads, cloudpickle.dumps(function), pure=False)
    packed = [cloudpickle.dumps(argument) for argument in arguments]
    loaded = client.map(pickle.loads, packed, pure=False)
    futures = client.map(call, [task] * len(loaded), loaded, pure=False)
    if show:
        progress(futures, notebook=False)
    try:
        return client.gather(futures)
    except (KilledWorker, FutureCancelledError) as error:
        raise CannotRun(f"the Dask cluster lost a task for good: {describe(error)}") from error
