"""A real object store for tests: SeaweedFS, a package, on ports of 127.0.0.1 of its own.

It checks signatures, and a bucket that nobody made does not exist.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import botocore.session
import pyarrow as pa
import pyarrow.parquet as pq
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.processes import PATIENCE, free_port, wait_until

BUCKET = "shop"
KEY_ID, SECRET = "shop-key", "shop'secret/+="


class ObjectStore:
    """A server that can be stopped and started again with what it held."""

    def __init__(self, folder: Path, *options: object, scheme: str = "http") -> None:
        self.folder, self.options, self.scheme = folder, options, scheme
        self.ports = [free_port() for _ in range(8)]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> dict[str, str]:
        """What a program that uses the store finds in its environment."""
        return {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL_S3": f"{self.scheme}://127.0.0.1:{self.ports[0]}",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        return botocore.session.get_session().create_client(
            "s3",
            region_name="eu-central-1",
            endpoint_url=self.settings["AWS_ENDPOINT_URL_S3"],
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            verify=False,
            config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}),
        )

    def start(self) -> None:
        """Start the server, and return when an object can be written."""
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        config = self.folder / "identities.json"
        config.write_text(json.dumps({"identities": [identity]}))
        names = ["s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port"]
        names += ["volume.port.grpc", "filer.port", "filer.port.grpc"]
        options = {
            **dict(zip(names, self.ports, strict=True)),
            "dir": self.folder,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "filer": "true",
            "s3": "true",
            "s3.config": config,
            "s3.autoCreateBucket": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "master.electionTimeout": "1s",
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 256,
            "volume.max": 100,
        }
        self.process = subprocess.Popen(
            [
                Path(sys.executable).parent / "weed",
                "-logtostderr=true",
                "server",
                *(f"-{name}={value}" for name, value in options.items()),
                *map(str, self.options),
            ],
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "weed.log").open("ab"),
        )
        wait_until(self.is_writable, "an object store that can be written to")

    def is_writable(self) -> bool:
        assert self.process and self.process.poll() is None, "the object store ended"
        try:
            client = self.client()
            if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="started", Body=b"yes")
        except (BotoCoreError, ClientError):
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self.process:
            self.process.send_signal(how)
            self.process.wait(PATIENCE)

    def put(self, name: str, data: bytes) -> str:
        """Write an object; returns its address."""
        self.client().put_object(Bucket=BUCKET, Key=name, Body=data)
        return f"s3://{BUCKET}/{name}"

    def get(self, name: str) -> bytes:
        return self.client().get_object(Bucket=BUCKET, Key=name)["Body"].read()

    def names(self, prefix: str) -> list[str]:
        pages = (
            self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        )
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def export_rows(self, lake: str) -> list[dict[str, Any]]:
        """Return the recommendations that a lake publishes."""
        build = json.loads(self.get(f"{lake}/published.json"))["build"]
        return self.rows(f"{lake}/published/{build}/product_recommendations.parquet")

    def uploads(self) -> list[str]:
        """Return the names of objects whose upload was begun and not completed."""
        listed = self.client().list_multipart_uploads(Bucket=BUCKET)
        return [upload["Key"] for upload in listed.get("Uploads", [])]

    def rows(self, name: str) -> list[dict[str, Any]]:
        return pq.read_table(pa.BufferReader(self.get(name))).to_pylist()
