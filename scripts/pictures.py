"""Draw the README's pictures: a product page and the report of the sample, as Chromium shows them."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import click

from bought_together.cli import program

PROJECT = Path(__file__).resolve().parent.parent
WIDTH = 1000  # pixels, which a README shows in about the same size
PAGES = {"product-page": ("/product?id=2010", 600), "report": ("/report", 1000)}
# The service's log names the address, with the port that it was given.
LISTENING = "Uvicorn running on "


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
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "LAKE_PATH": f"{folder}/lake",
            "DUCKDB_PATH": f"{folder}/warehouse.duckdb",
            "DBT_TARGET_PATH": f"{folder}/target",
            "DBT_LOG_PATH": f"{folder}/logs",
            "PORT": "0",
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
                script, cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True
            ) as service,
            sync_playwright() as playwright,
        ):
            assert service.stderr
            address = next(
                line.partition(LISTENING)[2].split()[0]
                for line in service.stderr
                if LISTENING in line
            )
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
            )
            for name, (path, height) in PAGES.items():
                page = browser.new_page(viewport={"width": WIDTH, "height": height})
                page.goto(f"http://127.0.0.1:{urlsplit(address).port}{path}")
                target = PROJECT / "docs" / f"{name}.png"
                page.screenshot(path=target)
                click.echo(f"written    {target} ({target.stat().st_size / 1000:.0f} kB)")
            browser.close()
            service.terminate()


if __name__ == "__main__":
    main()
