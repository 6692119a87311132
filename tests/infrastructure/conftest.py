"""An emulator of AWS for the whole run, and in it one deployment of every stack that tests only
look at. Tests that change or delete something make stacks of their own."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.support.cloudformation import Aws, Deployment
from tests.support.processes import free_port

HERE = Path(__file__).parent
START_SECONDS = 60


def wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < give_up:
        try:
            with urllib.request.urlopen(f"{url}/_ministack/health", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the emulator did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("ministack")
    url = f"http://127.0.0.1:{(port := free_port())}"
    log = folder / "log.txt"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": Aws.region,
        "SFN_WAIT_SCALE": "0.2",  # the seconds that a state machine waits
        # No containers: what would run in them is not what is tested here.
        "DOCKER_HOST": f"unix://{folder}/none",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, HERE / "emulator.py"],
            env=environment,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_healthy(process, url, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def aws(endpoint: str) -> Aws:
    session = boto3.Session(
        aws_access_key_id="test", aws_secret_access_key="test", region_name=Aws.region
    )
    return Aws(session, endpoint)


@pytest.fixture(scope="session")
def network(aws: Aws) -> dict[str, Any]:
    ec2 = aws("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(
            VpcId=vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=Aws.region + zone
        )["Subnet"]["SubnetId"]
        for number, zone in enumerate("aabb")
    ]
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    return {"vpc": vpc, "private": subnets[::2], "public": subnets[1::2], "table": table}


@pytest.fixture(scope="session")
def certificates(aws: Aws) -> str:
    """The secret that whoever deploys dask.yaml brings."""
    content = json.dumps({"ca": "of Dask", "certificate": "of Dask", "key": "of Dask"})
    return aws("secretsmanager").create_secret(Name="dask", SecretString=content)["ARN"]


@pytest.fixture(scope="session")
def web_certificate(aws: Aws) -> str:
    return aws("acm").request_certificate(DomainName="shop.example")["CertificateArn"]


@pytest.fixture(scope="session")
def deployed(
    aws: Aws, network: dict[str, Any], certificates: str, web_certificate: str
) -> Deployment:
    """Every stack, with every optional part; not to be changed."""
    deployment = Deployment(aws, network, "whole")
    deployment.deploy("base", AlertEmail="shop@example.com")
    deployment.deploy("cache")
    deployment.deploy("dask", ImageTag="1.0.0", CertificatesArn=certificates)
    deployment.deploy("batch", ImageTag="1.0.0", DaskStack=deployment.name("dask"))
    deployment.deploy(
        "service",
        ImageTag="1.0.0",
        Scheme="internet-facing",
        AllowedCidr="0.0.0.0/0",
        CertificateArn=web_certificate,
    )
    deployment.deploy("endpoints", RouteTableIds=network["table"])
    return deployment


@pytest.fixture
def fresh(
    aws: Aws, network: dict[str, Any], request: pytest.FixtureRequest
) -> Iterator[Deployment]:
    """Stacks of this test alone, deleted after it."""
    deployment = Deployment(aws, network, request.node.originalname.replace("_", "-")[:40])
    yield deployment
    deployment.delete_all()
