"""Endpoints in trouble: a database that is locked, variants that hang, platforms that cannot start containers."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from clary.local.endpoints import Endpoint, live_endpoint
from clary.local.platform import Platform

from .serving import BUCKET, Serving, gone, refusal
from .test_runtime import SERVER
from .up import until

HEAD = "import os, sys, threading, time\nPORT = int(os.environ['SAGEMAKER_BIND_TO_PORT'])\n"
WATCH = "threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()\n"


def plan(**variants: Mapping[str, Any]) -> dict[str, Any]:
    """What an endpoint of variants, each of the script of its name, is to run."""
    return {
        "EndpointConfigName": "config",
        "ProductionVariants": [{"VariantName": name, "ModelName": name, **more} for name, more in variants.items()],
        "AsyncInferenceConfig": None,
        "Models": {name: {"PrimaryContainer": {"Image": f"script/{name}"}} for name in variants},
    }


def begun(platform: Platform, now: Mapping[str, Any]) -> Endpoint:
    """An endpoint of a plan, which is being created."""
    document = {
        "EndpointName": "e",
        "EndpointArn": "arn",
        "EndpointStatus": "Creating",
        "ProductionVariants": [
            {"VariantName": one["VariantName"], "CurrentWeight": 1.0} for one in now["ProductionVariants"]
        ],
        "_Now": now,
    }
    platform.store.add("endpoint", "e", document, status="Creating")
    endpoint = Endpoint(platform, "e", "us-east-1")
    endpoint.begin()
    return endpoint


@contextmanager
def locked(platform: Platform) -> Iterator[None]:
    """Nobody else can write to the database during the block."""
    with closing(sqlite3.connect(platform.folder.database, isolation_level=None)) as other:
        until(lambda: taken(other))
        yield
        other.execute("ROLLBACK")


def taken(connection: sqlite3.Connection) -> bool:
    """Whether a connection has got the lock."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    return True


def status(platform: Platform) -> tuple[str, str]:
    """Of the endpoint, with why it has failed."""
    thing = platform.store.get("endpoint", "e")
    return (thing.status, thing.document.get("FailureReason", "")) if thing else ("", "")


def processes(platform: Platform) -> list[int]:
    """Those that run in the folders of the endpoint's containers."""
    folder, found = platform.folder.work("endpoints", "e"), []
    for entry in Path("/proc").iterdir():
        try:
            if (entry / "cwd").readlink().is_relative_to(folder):
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


def test_a_locked_database(platform: Platform, tmp_path: Path) -> None:
    """What has to be written is written when it can be: that it is in service, that it is gone."""
    (tmp_path / "good.py").write_text(HEAD + WATCH + SERVER)
    with locked(platform):
        pass
    endpoint = begun(platform, plan(good={}))
    with locked(platform):
        until(lambda: endpoint._variants)
        time.sleep(1)  # in which it is tried in vain
    until(lambda: status(platform) == ("InService", ""))
    with locked(platform):
        endpoint.stop()
        until(lambda: live_endpoint(platform, "e") is None)
        time.sleep(1)
    until(lambda: platform.store.get("endpoint", "e") is None)
    endpoint.join(30)


def test_an_unexpected_error(platform: Platform) -> None:
    """The endpoint fails, says why, and can be deleted."""
    now = plan(good={})
    del now["Models"]
    endpoint = begun(platform, now)
    until(lambda: status(platform) == ("Failed", "the local platform failed: KeyError('Models')"))
    endpoint.stop()
    until(lambda: platform.store.get("endpoint", "e") is None)


def test_an_unexpected_error_of_one_variant(platform: Platform, tmp_path: Path) -> None:
    """It is the endpoint's, and nothing runs any more."""
    (tmp_path / "good.py").write_text(HEAD + WATCH + SERVER)
    (tmp_path / "odd.py").write_text("")
    endpoint = begun(platform, plan(good={}, odd={"InstanceType": 5}))
    until(lambda: status(platform)[0] == "Failed")
    assert status(platform)[1].startswith("the local platform failed: TypeError(")
    until(lambda: not processes(platform))
    endpoint.stop()
    endpoint.join(30)


def test_what_is_deleted_before_it_runs(platform: Platform) -> None:
    """An endpoint whose thread nobody could tell of it goes all the same."""
    platform.store.add("endpoint", "e", {"EndpointArn": "arn", "EndpointStatus": "Deleting"}, status="Deleting")
    Endpoint(platform, "e", "us-east-1").begin()
    until(lambda: platform.store.get("endpoint", "e") is None)


def flagged(serving: Serving, name: str, otherwise: str) -> tuple[str, Path]:
    """A model of a server that does something else while there is a file; its name, and the file."""
    flag = serving.scripts / f"{name}.flag"
    image = serving.script(name, f"import time\nif os.path.exists({str(flag)!r}):\n    {otherwise}\n{SERVER}")
    return serving.model(name, Image=image), flag


def test_variants_are_watched_together(serving: Serving) -> None:
    """One that hangs when it is started again keeps no other from that, nor does an update that hangs."""
    hanging, flag = flagged(serving, "hanging", "time.sleep(600)")
    serving.model("quick", Image=serving.script("quick", SERVER))
    serving.endpoint("pair", hanging, "quick")

    def kill(variant: str) -> None:
        assert refusal(serving.ask, name="pair", body=b"die", TargetVariant=variant)[0] == "ModelError"

    def answers(variant: str) -> bool:
        try:
            return serving.ask("pair", b"close", TargetVariant=variant) == b"closed later"
        except (serving.runtime.exceptions.ServiceUnavailable, serving.runtime.exceptions.ModelError):
            return False  # it dies, or has died

    flag.touch()
    kill(hanging)
    until(lambda: serving.status("pair") == "Failed")
    kill("quick")
    until(lambda: not answers("quick"))
    until(lambda: answers("quick"))
    assert not answers(hanging)
    serving.sagemaker.update_endpoint(EndpointName="pair", EndpointConfigName=serving.config("pair-2", hanging))
    until(lambda: len(serving.servers("pair")) == 3)
    kill("quick")
    until(lambda: not answers("quick"))
    until(lambda: answers("quick"))
    assert serving.status("pair") == "Updating"
    serving.delete("pair")


def test_an_endpoint_that_does_not_come_up_again(serving: Serving) -> None:
    """It is tried again and again; what it was asked to do later is done once."""
    name, flag = flagged(serving, "stubborn", "sys.exit('not yet')")
    told = serving.scripts / "asked"
    (serving.scripts / "stubborn.py").write_text(
        (serving.scripts / "stubborn.py")
        .read_text()
        .replace("def do_slow(self, body):", f"def do_slow(self, body):\n        open({str(told)!r}, 'ab').write(body)")
    )
    config = {"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/out"}, "ClientConfig": {}}
    config["ClientConfig"] = {"MaxConcurrentInvocationsPerInstance": 1}
    serving.endpoint("stubborn", name, AsyncInferenceConfig=config)
    places = []
    for number in range(4):
        where = serving.put(f"in/{number}", b"slow 2 %d\n" % number)
        found = serving.runtime.invoke_endpoint_async(EndpointName="stubborn", InputLocation=where)
        places.append(found["OutputLocation"].removeprefix(f"s3://{BUCKET}/"))
    until(told.exists)
    flag.touch()
    serving.restart()
    serving.connect()
    until(lambda: serving.status("stubborn") == "Failed")
    assert "not yet" in serving.sagemaker.describe_endpoint(EndpointName="stubborn")["FailureReason"]
    code, _ = refusal(serving.ask, name="stubborn")
    assert code == "ServiceUnavailable"
    flag.unlink()
    until(lambda: serving.status("stubborn") == "InService")
    for place in places:
        until(lambda place=place: serving.s3.list_objects_v2(Bucket=BUCKET, Prefix=place)["KeyCount"])
    asked = [line.split()[-1] for line in told.read_bytes().splitlines()]
    assert sorted(asked[1:]) == [b"0", b"1", b"2", b"3"]
    before = serving.servers("stubborn")
    serving.delete("stubborn")
    assert all(map(gone, before))
