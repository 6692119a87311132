"""The users that deploy/cloudformation/cache.yaml gives the batch and the service."""

import re
import signal

import redis

from tests.support import ROOT
from tests.support.exports import LISTED, ROWS, write_export
from tests.support.service import call, running
from tests.support.valkey import Valkey

CACHE = ROOT / "deploy" / "cloudformation" / "cache.yaml"


def test_users_of_the_cache_may_do_their_work_and_no_more(shop, tmp_path):
    users = re.findall(r"UserName: (\w+)\n.*\n *AccessString: (.+)", CACHE.read_text())
    options = [part for name, rights in users for part in ("--user", name, ">pw", *rights.split())]
    valkey = Valkey(tmp_path, "--requirepass", "nobody", *options)
    valkey.start()
    batch, service = (
        f"redis://{name}:pw@127.0.0.1:{valkey.port}/0" for name in ("batch", "service")
    )
    try:
        for build in (1, 2):
            write_export(shop, ROWS, LISTED, build=build)
            assert call(shop, "publish", REDIS_URL=batch).returncode == 0
        refused = call(shop, "rollback", REDIS_URL=service)
        assert refused.returncode == 2
        assert "permission" in refused.stderr.lower()
        assert call(shop, "rollback", REDIS_URL=batch).returncode == 0
        with running(shop, REDIS_URL=service) as answering:
            answering.wait_for(200)
            assert answering.recommendations(LISTED[0][0])
        for url in (batch, service):
            with redis.Redis.from_url(url) as client:
                for command in ("FLUSHALL", "CONFIG GET *", "GET other", "KEYS *"):
                    try:
                        client.execute_command(*command.split())
                    except redis.exceptions.NoPermissionError:
                        continue
                    raise AssertionError(f"{url} may {command}")
    finally:
        valkey.stop(signal.SIGKILL)
