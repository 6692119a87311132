"""The images as a cloud runs them: a user without a name, a read-only root file system."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.support import ROOT
from tests.support.podman import Podman
from tests.support.processes import wait_until
from tests.support.readme import EXAMPLE_PATH, example_answer

HARDENED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
INPUT = f"{ROOT / 'data'}:/input:ro"


@pytest.fixture(scope="session")
def lake(podman: Podman, images: dict[str, str]) -> str:
    """A volume with what the batch image built from the sample."""
    podman("volume", "create", "lake")
    podman(
        *("run", "--rm", *HARDENED, "--network=none", "--volume", INPUT, "--volume", "lake:/data"),
        images["batch"],
    )
    return "lake"


@pytest.fixture
def service(podman: Podman, images: dict[str, str], lake: str) -> Iterator[str]:
    """A container of the service that serves the lake, at port 8000; not even /tmp is writable."""
    container = podman(
        *("run", "--detach", *HARDENED, "--read-only-tmpfs=false", "--network=host"),
        *("--volume", f"{lake}:/data:ro", images["service"]),
    )
    yield container
    podman("rm", "--force", "--time", 0, container)


def test_service_answers_as_the_readme_shows(podman: Podman, service: str) -> None:
    wait_until(lambda: podman.get("/readyz")[0] == 200, "the service is ready")
    assert podman.get(EXAMPLE_PATH) == (200, example_answer())
    podman("healthcheck", "run", service)


def test_health_check_fails_when_nothing_listens(podman: Podman, images: dict[str, str]) -> None:
    container = podman("run", "--detach", "--network=host", images["service"], "sleep", 60)
    assert podman.run("podman", "healthcheck", "run", container, check=False).returncode == 1
    podman("rm", "--force", "--time", 0, container)


def test_service_ends_at_sigterm(podman: Podman, service: str) -> None:
    wait_until(lambda: podman.get("/readyz")[0] == 200, "the service is ready")
    podman("stop", "--time", 30, service)
    assert podman("inspect", "--format", "{{.State.ExitCode}}", service) == "0"


def test_dask_workers_in_containers_build_the_same_table(
    podman: Podman, images: dict[str, str], lake: str
) -> None:
    """The engine that compiles its kernels, on a cluster whose workers share only the volume."""
    inside = (*HARDENED, "--network=host", "--volume", INPUT, "--volume", f"{lake}:/data")
    address = "tcp://127.0.0.1:8786"
    programs = [
        ("scheduler", "--host", "127.0.0.1", "--no-dashboard"),
        ("worker", address, "--host", "127.0.0.1", "--nthreads", 1, "--memory-limit", "2GB"),
    ]
    containers = [
        podman("run", "--detach", "--init", *inside, images["batch"], "dask", *program)
        for program in programs
    ]
    podman(
        *("run", "--rm", "--init", *inside, "--env=LAKE_PATH=/data/other"),
        *("--env=DUCKDB_PATH=/data/other.duckdb", "--env=PAIR_ENGINE=dask"),
        *(f"--env=DASK_SCHEDULER={address}", images["batch"]),
    )
    podman("rm", "--force", "--time", 0, *containers)
    same = (
        "select count(*), count(other.product_id) from"
        " '/data/lake/published/*/product_recommendations.parquet' as lake"
        " full join '/data/other/published/*/product_recommendations.parquet' as other"
        " using (product_id, recommendation_rank, recommended_product_id, copurchase_count)"
    )
    counted = podman(
        *("run", "--rm", *HARDENED, "--volume", f"{lake}:/data:ro", images["batch"]),
        *("python", "-c", f"import duckdb; print(*duckdb.sql({same!r}).fetchone())"),
    )
    rows, matched = map(int, counted.split())
    assert rows == matched > 0


@pytest.mark.parametrize(
    ("command", "status", "told"),
    [
        (["python", "scripts/build.py"], 2, "/input/products.txt does not exist"),
        (["python", "scripts/publish.py"], 2, "REDIS_URL is not set"),
        (["dbt", "build"], 2, "scripts/flatten.py"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_run_says_so(
    podman: Podman, images: dict[str, str], command: list[str], status: int, told: str
) -> None:
    outcome = podman.run(
        *("podman", "run", "--rm", "--init", *HARDENED, "--network=none", images["batch"]),
        *command,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert outcome.returncode == status, outcome.stdout
    assert told in outcome.stdout


INVENTORY = """
import importlib.util, json, os, shutil
tools = ["gcc", "cc", "g++", "clang", "make", "ld", "pip", "pip3", "git", "curl", "wget"]
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "tools": [tool for tool in tools if shutil.which(tool)],
    "modules": [name for name in ("pip", "pytest") if importlib.util.find_spec(name)],
    "app": sorted(os.listdir("/app")),
    "tests": sorted(os.listdir("/app/tests")) if os.path.isdir("/app/tests") else [],
    "lists": os.listdir("/var/lib/apt/lists") + os.listdir("/var/cache/apt/archives"),
    "writable": [
        folder
        for folder, _, _ in os.walk("/")
        if not folder.startswith(("/proc", "/sys", "/dev", "/tmp", "/var/tmp", "/run"))
        and os.access(folder, os.W_OK)
    ],
}))
"""
APP = {
    "batch": [
        "dbt_project.yml",
        "macros",
        "models",
        "profiles.yml",
        "scripts",
        "seeds",
        "selectors.yml",
        "tests",
    ],
    "service": ["scripts"],
}


@pytest.mark.parametrize("target", APP)
def test_images_hold_only_what_they_need(
    podman: Podman, images: dict[str, str], target: str
) -> None:
    found = json.loads(podman("run", "--rm", images[target], "python", "-c", INVENTORY))
    assert found["user"] == [10001, 10001]
    assert found["tools"] == found["modules"] == []
    assert set(found["lists"]) <= {"lock", "partial"}
    assert found["app"] == APP[target]
    assert found["tests"] in (["dbt"], [])
    assert found["writable"] == ["/data"]


@pytest.mark.parametrize("target", APP)
def test_image_holds_no_setting_of_this_machine(
    podman: Podman, images: dict[str, str], base: str, target: str
) -> None:
    """What lets pip reach the packages during the build stays outside."""
    look = "cat /etc/pip.conf /etc/ssl/certs/ca-certificates.crt 2> /dev/null | sha256sum"
    built, stood_in = (
        podman("run", "--rm", "--network=none", image, "sh", "-c", look)
        for image in (images[target], base)
    )
    assert built == stood_in
    assert "PIP_" not in podman("image", "inspect", "--format", "{{.Config.Env}}", images[target])


def test_sizes(
    podman: Podman, images: dict[str, str], base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prints what there is besides the base, unpacked; something large came in where this fails."""
    sizes = {
        name: int(podman("image", "inspect", "--format", "{{.Size}}", image)) / 1e6
        for name, image in {"base": base, **images}.items()
    }
    with capsys.disabled():
        for target in images:
            print(f"\n{target}: {sizes[target] - sizes['base']:.0f} MB besides the base", end="")
    assert sizes["service"] - sizes["base"] < 500
    assert sizes["batch"] - sizes["base"] < 1000
