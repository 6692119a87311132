"""Builds the images for real and runs them, where podman is.

No registry is asked: a Debian that debootstrap puts together, with the Python of the same minor
version in the same places, stands in for the base that the Dockerfile names. It and the layers are
kept in .cache/image from one run to the next.

Whatever listens does so in a network namespace of the tests' own, so that every port is free and
nothing is left of the bridges.
"""

import configparser
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.podman import Podman

CACHE = ROOT / ".cache" / "image"
DOCKERFILE = ROOT / "deploy" / "image" / "Dockerfile"
NAMES = {"batch": "localhost/bought-together-batch", "service": "localhost/bought-together-service"}
NEEDED = (
    *("podman", "runc", "catatonit", "netavark", "aardvark-dns", "iptables"),
    *("debootstrap", "ip", "nsenter", "curl"),
)
PLACES = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/lib/podman"])

CONTAINERS_CONF = """\
[network]
network_backend = "netavark"
network_config_dir = "{cache}/networks"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]  # to raise them takes a privilege
[engine]
runtime = "runc"  # takes the older kind of cgroups too
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{cache}/run/libpod"
"""
STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{cache}/storage"
runroot = "{cache}/run/storage"
"""

# The official image has its Python, and pip, under /usr/local; so does this.
BASE = """\
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates trixie {root} >&2
chroot {root} python3 -m venv /usr/local
rm -rf {root}/var/cache/apt/archives/*.deb {root}/var/lib/apt/lists/*
tar -C {root} -c .
"""
# As the image of valkey that compose.yaml names: the user 999, and its folder.
REDIS = """\
FROM {base}
RUN apt-get update -qq && apt-get install -yqq --no-install-recommends valkey-server valkey-tools \
    && install -d -o 999 -g 1000 /data
WORKDIR /data
"""
# Settings of pip that say where packages come from; a build takes them from this machine.
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "cert", "proxy", "default-timeout")


def pip_settings(folder: Path) -> list[str]:
    """Return the options of a build that let its pip reach what pip reaches on this machine."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    settings: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        urls = [url for url in shlex.split(value)[0].split() if not url.startswith("file:")]
        if name in PIP_SETTINGS and urls:
            settings[name] = " ".join(urls)
    config = configparser.ConfigParser(interpolation=None)
    config["global"] = settings
    with (folder / "pip.conf").open("w") as file:
        config.write(file)
    options = ["--secret", f"id=pip.conf,src={folder / 'pip.conf'}"]
    if certificates := settings.get("cert"):
        options += ["--volume", f"{certificates}:{certificates}:ro"]
    return options


def clean(podman: Podman) -> None:
    podman("rm", "--all", "--force", "--time", 0)
    podman("volume", "prune", "--force")
    podman("network", "prune", "--force")


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    missing = [program for program in NEEDED if not shutil.which(program, path=PLACES)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("only root can debootstrap, and make network namespaces")
    CACHE.mkdir(parents=True, exist_ok=True)
    # Not the settings that a developer has in the environment: compose.yaml reads them.
    kept = {name: value for name, value in os.environ.items() if name.lower().endswith("proxy")}
    environment = {**kept, "PATH": PLACES, "HOME": str(CACHE), "TMPDIR": str(CACHE / "tmp")}
    (CACHE / "tmp").mkdir(exist_ok=True)
    for name, text in (
        ("CONTAINERS_CONF", CONTAINERS_CONF),
        ("CONTAINERS_STORAGE_CONF", STORAGE_CONF),
    ):
        file = CACHE / f"{name.lower()}.toml"
        file.write_text(text.format(cache=CACHE))
        environment[name] = str(file)
    namespace = f"bt-image-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        podman = Podman(environment, namespace)
        podman.run("ip", "link", "set", "lo", "up")
        clean(podman)  # what a run that was killed has left
        yield podman
        clean(podman)
        podman("image", "prune", "--force", "--filter", "until=72h")
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=True)


@pytest.fixture(scope="session")
def base(podman: Podman) -> str:
    """The image that stands in for the Dockerfile's base."""
    outside = Podman(podman.environment)
    name = f"localhost/stand-in:{hashlib.sha256(BASE.encode()).hexdigest()[:12]}"
    if outside.run("podman", "image", "exists", name, check=False).returncode == 0:
        return name
    with tempfile.TemporaryDirectory(dir=CACHE) as root:
        script = ["sh", "-ec", BASE.format(root=shlex.quote(root))]
        making = subprocess.Popen(script, stdout=subprocess.PIPE, env=podman.environment)
        outside("import", "--quiet", "-", name, stdin=making.stdout)
        assert making.wait() == 0
    return name


@pytest.fixture(scope="session")
def images(podman: Podman, base: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Both targets of the Dockerfile, built; by target."""
    outside = Podman(podman.environment)
    pip = pip_settings(tmp_path_factory.mktemp("pip"))
    for target, name in NAMES.items():
        outside(
            *("build", "--quiet", "--isolation", "chroot", "--format", "docker"),
            *("--file", DOCKERFILE, "--target", target, "--tag", name),
            *("--from", base, *pip, ROOT),
        )
    return NAMES


@pytest.fixture(scope="session")
def redis_image(podman: Podman, base: str) -> str:
    name = "localhost/stand-in-redis"
    outside = Podman(podman.environment)
    outside(
        *("build", "--quiet", "--isolation", "chroot", "--tag", name, "-"),
        input=REDIS.format(base=base),
    )
    return name
