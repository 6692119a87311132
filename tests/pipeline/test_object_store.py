"""A lake in an object store: the same table, one line for each fault, nothing half-published."""

import gzip
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
import s3fs
import trustme
from botocore.exceptions import ClientError

from bought_together.dbt_plugin import Plugin
from bought_together.errors import CannotRun
from bought_together.ingest.byte_ranges import plan_byte_ranges, read_lines
from bought_together.ingest.inputs import InputFile
from bought_together.ingest.run import flatten
from bought_together.storage import pointers
from bought_together.storage.duckdb_s3 import S3Login
from bought_together.storage.filesystem import file_sizes, open_whole
from bought_together.storage.lake import (
    RUNS_KEPT,
    make_current,
    new_run,
    read_current,
    take_file_numbers,
)
from bought_together.storage.pointers import move_pointer, read_json, write_json
from tests.support import ROOT
from tests.support.compression import zstd
from tests.support.object_store import BUCKET, ObjectStore
from tests.support.processes import PATIENCE, assert_one_line, program, wait_until
from tests.support.service import publish, running
from tests.support.shop import Shop

SAMPLE = {name: (ROOT / f"data/{name}.txt").read_bytes() for name in ("transactions", "products")}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    store = ObjectStore(tmp_path_factory.mktemp("store"))
    store.start()
    yield store
    store.stop()


class RemoteShop(Shop):
    """A shop whose files and lake are in the store, under a name of their own."""

    store: ObjectStore

    @property
    def prefix(self) -> str:
        return self.folder.name

    @property
    def lake_name(self) -> str:
        return f"{self.prefix}/lake"

    def environment(self, **settings: object) -> dict[str, str]:
        here = f"s3://{BUCKET}/{self.prefix}"
        remote = {
            **self.store.settings,
            "TRANSACTIONS": f"{here}/transactions*.txt",
            "PRODUCTS": f"{here}/products.txt",
            "LAKE_PATH": f"s3://{BUCKET}/{self.lake_name}",
        }
        wanted = super().environment(**{**remote, **settings})
        return {name: value for name, value in wanted.items() if value != "None"}

    def put_sample(self) -> None:
        for name, data in SAMPLE.items():
            self.store.put(f"{self.prefix}/{name}.txt", data)

    def current(self) -> bytes:
        return self.store.get(f"{self.lake_name}/current.json")

    def export_rows(self) -> list[dict[str, Any]]:
        return self.store.export_rows(self.lake_name)


@pytest.fixture
def remote(server: ObjectStore, tmp_path: Path, dbt_folder: Path) -> RemoteShop:
    return with_sample(server, tmp_path, dbt_folder)


def with_sample(store: ObjectStore, folder: Path, dbt_folder: Path) -> RemoteShop:
    shop = RemoteShop(folder, dbt_folder)
    shop.store = store
    shop.put_sample()
    return shop


@pytest.fixture(scope="module")
def sample_rows(tmp_path_factory, dbt_folder) -> list[dict[str, Any]]:
    """What a lake on disk gives."""
    shop = Shop(tmp_path_factory.mktemp("sample"), dbt_folder)
    shop.transactions.write_bytes(SAMPLE["transactions"])
    shop.products.write_bytes(SAMPLE["products"])
    shop.build()
    return pq.read_table(shop.export).to_pylist()


@pytest.mark.parametrize("engine", ["duckdb", "dask"])
def test_the_table_is_the_one_that_a_disk_gives(remote, sample_rows, engine):
    remote.engine = engine
    remote.build(block_size=4096)
    assert remote.export_rows() == sample_rows
    assert not remote.lake.exists()
    assert remote.store.uploads() == []


def test_order_lines_and_their_mapping_are_read_from_the_store(remote, sample_rows):
    """What was returned is an order of its own, so that it is not taken off what was bought."""
    orders = ["order,sku,units"]
    for number, line in enumerate(SAMPLE["transactions"].splitlines()):
        for item in json.loads(line)["itemList"]:
            units = item.get("quantity", 1)
            orders.append(f"{number}{'' if units > 0 else 'r'},{item['item']},{units}")
    mapping = "transactions: {order_id: order, product_id: sku, quantity: units}\n"
    files = {"orders.csv": "\n".join(orders), "input.yml": mapping}
    for name, text in files.items():
        remote.store.put(f"{remote.prefix}/{name}", text.encode())
    here = f"s3://{BUCKET}/{remote.prefix}"
    remote.engine = "dask"
    remote.build(TRANSACTIONS=f"{here}/orders.csv", INPUT_MAPPING=f"{here}/input.yml")
    assert remote.export_rows() == sample_rows


def test_lookup_service_and_redis_answer_from_the_store(remote, valkey):
    remote.build()
    looked_up = remote.run("recommend", "5010", "--json")
    assert (looked_up.returncode, looked_up.stderr) == (0, "")
    answer = json.loads(looked_up.stdout)
    assert answer["recommendations"][0]["product_name"] == "Tomato sauce"
    publish(remote, valkey)
    with running(remote) as in_memory, running(remote, REDIS_URL=valkey.url()) as from_redis:
        for service in (in_memory, from_redis):
            service.wait_for(200)
            assert service.recommendations("5010") == answer
        first = in_memory.version()
        remote.build()
        wait_until(lambda: in_memory.version() != first, "the new build")


def test_inputs_of_every_kind_are_read_from_the_store(remote, shop):
    lines = SAMPLE["transactions"].splitlines(keepends=True)
    array = b"[" + b",".join(lines[200:]) + b"]"
    files = {
        "in/day 1.txt": b"".join(lines[:100]),
        "in/day 2.txt.gz": gzip.compress(b"".join(lines[100:150])),
        "in/day 3.txt.zst": zstd(b"".join(lines[150:200])),
        "array.json": array,
        "in/empty.txt": b"",
        "products.txt.gz": gzip.compress(SAMPLE["products"]),
    }
    for name, data in files.items():
        remote.store.put(f"{remote.prefix}/{name}", data)
        path = remote.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    inputs = {"TRANSACTIONS": "{0}/in/*,{0}/array.json", "PRODUCTS": "{0}/products.txt.gz"}

    def flattened(shop: Shop, root: object) -> dict[str, Any]:
        settings = {name: value.format(root) for name, value in inputs.items()}
        finished = shop.run("flatten", "--block-size", 3000, **settings)
        assert finished.returncode == 0, finished.stderr
        return json.loads(remote.current()) if shop is remote else shop.manifest()

    there = flattened(remote, f"s3://{BUCKET}/{remote.prefix}")
    here = flattened(shop, remote.folder)
    assert there["counts"] == here["counts"]
    assert there["counts"]["transactions"]["records_read"] == len(lines)
    assert [file["bytes"] for file in there["files"]] == [file["bytes"] for file in here["files"]]
    assert all(file["path"].startswith("s3://") for file in there["files"])


def test_a_name_that_looks_like_a_pattern_is_a_name(remote):
    remote.engine = "dask"
    there = f"s3://{BUCKET}/{remote.prefix}/la[k]e *"
    settings = {"LAKE_PATH": there, "PAIR_ENGINE": "dask"}
    for _ in range(RUNS_KEPT + 1):
        flattened = remote.run("flatten", **settings)
        assert (flattened.returncode, flattened.stderr) == (0, "")
    counted = remote.run("count_pairs", **settings)
    assert (counted.returncode, counted.stderr) == (0, "")
    names = remote.store.names(f"{remote.prefix}/la[k]e */runs/")
    assert len({name.split("/")[3] for name in names}) == RUNS_KEPT
    assert not [name for name in names if "/work/" in name]


def test_answers_that_break_off_are_one_line(shop):
    class Broken(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(b"")

        def do_GET(self):
            self.answer(b"PAR1")

        def answer(self, body):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.send_header("ETag", '"1"')
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        url = f"http://127.0.0.1:{server.server_port}"
        finished = shop.run(
            "recommend", "1", LAKE_PATH="s3://shop/lake", AWS_ENDPOINT_URL_S3=url, **keys
        )
        server.shutdown()
    assert_one_line(finished, 2, "cannot read s3://shop/lake/published.json")


@pytest.mark.parametrize("path", ["gs://shop/lake", "S3://shop/lake"])
def test_a_store_that_is_not_known_is_one_line(shop, path):
    shop.write([["1"]], ["1"])
    assert_one_line(shop.run("flatten", LAKE_PATH=path), 2, path)


WRONG = {
    "secret": ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "signature"),
    "key": ({"AWS_ACCESS_KEY_ID": "nobody"}, "does not exist"),
    "none": ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "credentials"),
    "bucket": ({"LAKE_PATH": "s3://no-such-bucket/lake"}, "bucket does not exist"),
    "no bucket": ({"LAKE_PATH": "s3://"}, "names no bucket"),
    "input": ({"TRANSACTIONS": f"s3://{BUCKET}/nothing.txt"}, "nothing.txt does not exist"),
    "folder": ({"TRANSACTIONS": f"s3://{BUCKET}"}, "is a folder"),
    "endpoint": ({"AWS_ENDPOINT_URL_S3": "nonsense"}, "Invalid endpoint"),
    "server": ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, "Could not connect"),
}


@pytest.mark.parametrize("settings, told", WRONG.values(), ids=WRONG)
def test_whatever_is_wrong_with_the_store_is_one_line(remote, settings, told):
    finished = remote.run("flatten", **settings)
    assert_one_line(finished, 2, told)
    assert "shop'secret" not in finished.stderr
    assert remote.store.names(remote.lake_name) == []


def test_a_missing_bucket_is_not_made(remote):
    finished = remote.run("build", LAKE_PATH="s3://mistyped/lake")
    assert_one_line(finished, 2, "bucket does not exist")
    assert [found["Name"] for found in remote.store.client().list_buckets()["Buckets"]] == [BUCKET]


@pytest.fixture(scope="module")
def flattened(
    server: ObjectStore, tmp_path_factory: pytest.TempPathFactory, dbt_folder: Path
) -> RemoteShop:
    """A shop in the store that has been flattened, to look at."""
    shop = with_sample(server, tmp_path_factory.mktemp("flattened"), dbt_folder)
    assert shop.run("flatten").returncode == 0
    return shop


@pytest.mark.parametrize("wrong", ["secret", "none", "endpoint", "server"])
def test_dbt_by_hand_says_what_is_wrong_without_a_call_stack(flattened, wrong):
    finished = flattened.dbt("--no-use-colors", "build", **WRONG[wrong][0])
    assert finished.returncode != 0
    assert "Traceback" not in finished.stdout + finished.stderr
    told = {"secret": "Forbidden", "server": "Could not connect"}
    assert told.get(wrong, WRONG[wrong][1]) in finished.stdout


def test_dbt_before_any_flatten_says_so(remote):
    finished = remote.dbt("build")
    assert "run `python scripts/flatten.py`" in finished.stdout


@pytest.mark.parametrize("program", ["recommend", "count_pairs"])
def test_readers_say_in_one_line_that_the_store_is_away(remote, program):
    arguments = ["5010"] if program == "recommend" else []
    finished = remote.run(program, *arguments, **WRONG["server"][0])
    assert_one_line(finished, 2, "Could not connect")


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A store that tests may stop, and must start again."""
    store = ObjectStore(tmp_path_factory.mktemp("mortal"))
    store.start()
    yield store
    store.stop()


@pytest.fixture(scope="module")
def built(mortal: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> RemoteShop:
    """A shop in that store that has published; each test leaves it with a build of its own."""
    folder = tmp_path_factory.mktemp("built")
    shop = with_sample(mortal, folder, folder / "dbt")
    first = shop.run("build")
    assert first.returncode == 0, first.stderr
    return shop


def run_until_the_store_stops(
    shop: RemoteShop, program: list[Any], condition: Callable[[], bool]
) -> Any:
    """Run a program, kill the store once the condition is true; returns the finished program."""
    process = subprocess.Popen(
        list(map(str, program)),
        cwd=ROOT,
        env=shop.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: condition() or process.poll() is not None, "the middle of the work")
        assert process.poll() is None, "it ended before the store could be stopped"
        shop.store.stop()
        output, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return subprocess.CompletedProcess(program, process.returncode, output, errors)


def test_a_store_that_stops_while_flatten_writes_changes_nothing(built):
    before, rows = built.current(), built.export_rows()
    written = set(built.store.names(built.lake_name))
    flatten = [sys.executable, ROOT / "scripts/flatten.py", "--full-refresh", "--block-size", 500]
    stopped = run_until_the_store_stops(
        built, flatten, lambda: len(set(built.store.names(built.lake_name)) - written) > 5
    )
    assert_one_line(stopped, 2, "Could not connect")
    built.store.start()
    assert (built.current(), built.export_rows()) == (before, rows)
    assert built.run("build").returncode == 0
    assert built.current() != before
    assert built.export_rows() == rows


def test_a_store_that_stops_while_dbt_builds_changes_nothing(built):
    before = built.store.get(f"{built.lake_name}/published.json")
    log = built.dbt_folder / "logs" / "dbt.log"
    begun = log.read_text().count("START sql table model")
    stopped = run_until_the_store_stops(
        built, program("build"), lambda: log.read_text().count("START sql table model") > begun
    )
    assert stopped.returncode == 2
    assert stopped.stderr.count("\n") == 1, stopped.stderr
    assert "nothing was published" in stopped.stderr
    assert f"details in {log}" in stopped.stderr
    assert "Could not connect" in stopped.stdout
    assert "Traceback" not in stopped.stdout
    built.store.start()
    assert built.store.get(f"{built.lake_name}/published.json") == before
    rerun = built.run("build")
    assert rerun.returncode == 0, rerun.stderr


def test_a_reader_sees_a_whole_table_while_a_build_replaces_it(remote):
    assert remote.run("build").returncode == 0
    done = threading.Event()

    def watch() -> list[int]:
        seen = []
        while not done.is_set():
            seen.append(len(remote.export_rows()))
        return seen

    with ThreadPoolExecutor(1) as watching:
        seen = watching.submit(watch)
        try:
            built = remote.dbt("--quiet", "build")
            assert built.returncode == 0, built.stdout
        finally:
            done.set()
    assert set(seen.result()) == {len(remote.export_rows())}


@pytest.fixture
def here(remote: RemoteShop, monkeypatch: pytest.MonkeyPatch) -> str:
    """Lets this process use the store; the address of a folder there."""
    for name, value in remote.store.settings.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{remote.prefix}"


def test_a_pointer_that_another_program_moves_meanwhile_moves_forward_only(here, monkeypatch):
    """A store has no locks: it compares when the pointer is written."""
    path = f"{here}/pointer.json"
    put = pointers.put_unless_changed
    others = [3, 9]

    def put_after_another(name: str, content: Any, tag: str | None) -> bool:
        if others:
            write_json(name, {"number": others.pop(0)})
        return put(name, content, tag)

    def move(number: int) -> Any:
        held = move_pointer(path, {"number": number}, lambda held: held["number"] < number)
        return held and held["number"]

    assert move(2) is None
    monkeypatch.setattr(pointers, "put_unless_changed", put_after_another)
    assert move(5) == 9  # it lost to 3, tried again and lost to 9
    assert read_json(path) == {"number": 9}
    assert move(10) is None
    assert read_json(path) == {"number": 10}


def test_file_numbers_taken_at_once_are_different(here):
    with ThreadPoolExecutor(4) as pool:
        firsts = list(pool.map(lambda _: take_file_numbers(f"{here}/lake", 3), range(12)))
    assert sorted(firsts) == list(range(0, 36, 3))


def test_objects_that_have_not_changed_are_not_asked_for(remote, here, monkeypatch):
    """Their ETags tell; an equal object that is put again is the same."""
    lines = SAMPLE["transactions"].splitlines(keepends=True)
    parts = {
        "a.txt": lines[:9],
        "b.txt": lines[9:20],
        "large.txt": lines[20:200],
        "c.txt": lines[200:],
    }
    asked: set[str] = set()
    fetch_file, fetch_range = s3fs.S3FileSystem._cat_file, s3fs.S3File._fetch_range

    async def cat_file(self: s3fs.S3FileSystem, path: str, *settings: Any, **options: Any) -> bytes:
        asked.add(path)
        return await fetch_file(self, path, *settings, **options)

    def get_range(self: s3fs.S3File, *settings: Any) -> bytes:
        asked.add(self.path)
        return fetch_range(self, *settings)

    monkeypatch.setattr(s3fs.S3FileSystem, "_cat_file", cat_file)
    monkeypatch.setattr(s3fs.S3File, "_fetch_range", get_range)

    def put(name: str, records: list[bytes]) -> None:
        remote.store.put(f"{remote.prefix}/in/{name}", b"".join(records))

    def flattened() -> tuple[set[str], dict[str, int], int]:
        asked.clear()
        run = flatten(f"{here}/in/*", f"{here}/products.txt", f"{here}/lake", block_size=9000)
        read = {path.rsplit("/", 1)[1] for path in asked if "/in/" in path}
        numbers = {file["path"].rsplit("/", 1)[1]: file["number"] for file in run["files"]}
        return read, numbers, run["counts"]["transactions"]["records_read"]

    for name in ("a.txt", "b.txt", "large.txt"):
        put(name, parts[name])
    assert flattened() == (
        {"a.txt", "b.txt", "large.txt"},
        {"a.txt": 0, "b.txt": 1, "large.txt": 2},
        200,
    )
    put("c.txt", parts["c.txt"])
    put("large.txt", parts["large.txt"])
    numbers = {"a.txt": 0, "b.txt": 1, "c.txt": 3, "large.txt": 2}
    assert flattened() == ({"c.txt"}, numbers, 300)
    put("large.txt", [*parts["large.txt"][1:], parts["large.txt"][0]])
    assert flattened() == ({"large.txt"}, numbers | {"large.txt": 4}, 300)
    remote.store.client().delete_object(Bucket=BUCKET, Key=f"{remote.prefix}/in/c.txt")
    put("d.txt", parts["b.txt"])
    with pytest.raises(CannotRun, match=r"in/b\.txt and .*in/d\.txt, which have the same content"):
        flattened()


def test_many_flattens_that_end_at_once_leave_the_newest_current(here):
    number = 6
    runs: list[str] = []
    for _ in range(number):
        runs.append(new_run(runs))
    barrier = threading.Barrier(number)

    def finish(run: str) -> None:
        barrier.wait(PATIENCE)
        make_current(f"{here}/lake", run, {"run": run})

    with ThreadPoolExecutor(number) as pool:
        list(pool.map(finish, runs))
    assert read_current(f"{here}/lake") == {"run": runs[-1]}


def test_a_store_that_cannot_compare_takes_the_pointer_all_the_same(here, monkeypatch):
    path = f"{here}/pointer.json"
    ask = s3fs.S3FileSystem.call_s3

    def refuse(self: s3fs.S3FileSystem, method: str, *arguments: Any, **options: Any) -> Any:
        if {"IfMatch", "IfNoneMatch"} & options.keys():
            answer = {"Error": {"Code": "NotImplemented", "Message": "a header implies …"}}
            raise OSError("not implemented") from ClientError(answer, method)
        return ask(self, method, *arguments, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", refuse)
    for number in range(2):
        assert move_pointer(path, {"number": number}, lambda _: True) is None
        assert read_json(path) == {"number": number}


@pytest.mark.parametrize("size", [1000, 120 << 20], ids=["small", "in parts"])
def test_a_file_that_could_not_be_finished_is_not_there(remote, here, size):
    """Larger files are uploaded in parts while they are written."""
    path = f"{here}/whole"
    with open_whole(path) as file:
        file.write(b"old")
    with pytest.raises(RuntimeError), open_whole(path) as file:
        file.write(bytes(size))
        raise RuntimeError
    assert remote.store.get(f"{remote.prefix}/whole") == b"old"
    assert remote.store.uploads() == []


def test_what_another_program_wrote_is_found(remote, here):
    for number in (1, 2):
        remote.store.put(f"{remote.prefix}/parts/{number}", bytes(number))
        assert file_sizes(f"{here}/parts") == {str(one): one for one in range(1, number + 1)}


def test_a_range_is_read_once(remote, here, monkeypatch):
    """Reading ahead, which helps other programs, would fetch most of a file for each range."""
    fetched = []
    fetch = s3fs.S3File._fetch_range

    def count(file: s3fs.S3File, start: int, end: int) -> bytes:
        fetched.append(end - start)
        return fetch(file, start, end)

    line = b'{"itemList": [{"item": "5010"}]}\n'
    data = line * (8_000_000 // len(line))
    source = InputFile(0, remote.store.put(f"{remote.prefix}/large", data), len(data), None, False)
    monkeypatch.setattr(s3fs.S3File, "_fetch_range", count)
    ranges = plan_byte_ranges([source], 1_000_000)
    read = b"".join(block.data for part in ranges for block in read_lines(part, 1_000_000))
    assert read == data
    assert sum(fetched) < len(data) + len(ranges) * 200_000


def test_credentials_of_a_role_are_renewed_for_duckdb(tmp_path, monkeypatch):
    """A profile names a program that hands out credentials, which expire, one after the other."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    count = tmp_path / "count"
    program = tmp_path / "credentials.py"
    program.write_text(
        "import datetime, json, pathlib\n"
        f"count = pathlib.Path({str(count)!r})\n"
        "number = int(count.read_text()) + 1 if count.exists() else 1\n"
        "count.write_text(str(number))\n"
        "soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=5)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'key{number}', 'SecretAccessKey': 's',\n"
        "    'SessionToken': f'token{number}', 'Expiration': soon.isoformat()}))\n"
    )
    config = tmp_path / "config"
    config.write_text(
        "[profile shop]\nregion = eu-north-1\nendpoint_url = https://store.example:9000\n"
        f"credential_process = {sys.executable} {program}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "shop")
    monkeypatch.setenv("LAKE_PATH", "s3://shop/lake")
    plugin = Plugin("object_store", {})
    plugin.is_mounted = True  # there is no such store to mount a lake of
    with duckdb.connect() as connection:
        plugin.configure_connection(connection)
        first = told_secret(connection)
        plugin.configure_cursor(connection)
        second = told_secret(connection)
    assert first["endpoint"] == "store.example:9000"
    assert (first["region"], first["use_ssl"], first["url_style"]) == ("eu-north-1", "true", "path")
    assert first["key_id"] != second["key_id"]


def told_secret(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    [(text,)] = connection.execute("select secret_string from duckdb_secrets()").fetchall()
    assert "token1" not in text
    return dict(part.split("=", 1) for part in text.split(";"))


def test_buckets_of_aws_itself_are_hosts(monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert S3Login().options == {
        "endpoint": "s3.eu-central-1.amazonaws.com",
        "use_ssl": "true",
        "url_style": "vhost",
        "region": "eu-central-1",
    }


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_shop(authority: trustme.CA, tmp_path: Path) -> Iterator[RemoteShop]:
    own = authority.issue_cert("127.0.0.1")
    own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    folder = tmp_path / "store"
    folder.mkdir()
    files = [f"-s3.{kind}.file={tmp_path / 'own.pem'}" for kind in ("key", "cert")]
    shop = RemoteShop(tmp_path, tmp_path / "dbt")
    shop.store = ObjectStore(folder, *files, scheme="https")
    shop.store.start()
    shop.put_sample()
    yield shop
    shop.store.stop()


def test_a_store_behind_tls_is_used_with_its_authority_and_refused_without(tls_shop):
    trusted = {"AWS_CA_BUNDLE": tls_shop.folder / "ca.pem"}
    built = tls_shop.run("build", **trusted)
    assert built.returncode == 0, built.stderr
    refused = tls_shop.run("flatten")
    assert_one_line(refused, 2, "SSL validation failed")
    by_hand = tls_shop.dbt("--no-use-colors", "build")
    assert by_hand.returncode != 0
    assert "SSL" in by_hand.stdout


class Object(BaseHTTPRequestHandler):
    """Answers every request with one small object."""

    protocol_version = "HTTP/1.1"
    content = b"number\n42\n"

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.send_header("ETag", '"1"')
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def tls_object(authority: trustme.CA, tmp_path: Path) -> Iterator[str]:
    """The address of a server behind TLS, whose certificate no system knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with ThreadingHTTPServer(("127.0.0.1", 0), Object) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("client", ["httplib", "curl"])
@pytest.mark.parametrize("is_known", [True, False], ids=["known", "unknown"])
def test_duckdb_verifies_certificates_with_either_client(
    tls_object: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    client: str,
    is_known: bool,
) -> None:
    settings = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT_URL_S3": tls_object,
        "AWS_DEFAULT_REGION": "eu-central-1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    if is_known:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    else:
        monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    with duckdb.connect() as connection:
        S3Login().load(connection)
        connection.execute(f"set global httpfs_client_implementation = '{client}'")
        connection.execute("set global http_retries = 0")
        read = "select * from read_csv('s3://shop/object.csv')"
        if is_known:
            assert connection.execute(read).fetchall() == [(42,)]
        else:
            with pytest.raises(duckdb.Error, match=r"(?i)ssl|certificate|verif"):
                connection.execute(read)
