"""Draw the README's pictures: a product page and the report of the sample."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import click

from bought_together.cli import program

PROJECT = Path(__file__).resolve().parent.parent
MARGIN = 20
WIDTH = 1000  # pixels, which a README shows in about the same size
PAGES = {
    "product-page": ("/product?id=2010", "main"),
    "report": ("/report", "section:has(#quality-title)"),
}
PATIENCE = 60  # seconds that the service may take to start


def wait_until_ready(service: "subprocess.Popen[bytes]", address: str) -> None:
    """Return when the service answers; raises CannotRun when it does not."""
    from bought_together.errors import CannotRun

    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and service.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/readyz"):
                return
        except OSError:
            time.sleep(0.1)
    service.terminate()
    raise CannotRun(f"the service does not answer at {address}")


@program
def main() -> None:
    """Build the sample in a folder of its own, and write docs/product-page.png and docs/report.png.

    Needs the environment of the tests, and Chromium (Debian's package chromium). Exit status: 0
    written; 2 it could not run.
    """
    from playwright.sync_api import sync_playwright

    from bought_together.errors import CannotRun

    chromium = shutil.which("chromium")
    if chromium is None:
        raise CannotRun("there is no chromium on the PATH: install Debian's package chromium")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "LAKE_PATH": f"{folder}/lake",
            "DUCKDB_PATH": f"{folder}/warehouse.duckdb",
            "DBT_TARGET_PATH": f"{folder}/target",
            "DBT_LOG_PATH": f"{folder}/logs",
            "PORT": str(port),
            "REDIS_URL": "",
        }
        environment = os.environ | settings
        for name in ("build", "evaluate", "report"):
            script = [sys.executable, f"scripts/{name}.py"]
            subprocess.run(
                script, cwd=PROJECT, env=environment, check=True, stdout=subprocess.DEVNULL
            )
        script = [sys.executable, "scripts/serve.py"]
        with (
            subprocess.Popen(
                script, cwd=PROJECT, env=environment, stderr=subprocess.DEVNULL
            ) as service,
            sync_playwright() as playwright,
        ):
            wait_until_ready(service, address)
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
            )
            for name, (path, part) in PAGES.items():
                page = browser.new_page(viewport={"width": WIDTH, "height": WIDTH})
                page.goto(f"{address}{path}")
                target = PROJECT / "docs" / f"{name}.png"
                box = page.locator(part).bounding_box()
                assert box
                sides = {"x": box["x"] - MARGIN, "width": box["width"] + 2 * MARGIN}
                page.screenshot(path=target, clip={**box, **sides}, full_page=True)
                click.echo(f"written    {target} ({target.stat().st_size / 1000:.0f} kB)")
            browser.close()
            service.terminate()


if __name__ == "__main__":
    main()
