"""Endpoints that really run: variants, updates, deaths, ends."""

from __future__ import annotations

import gzip
import io
import os
import signal
import tarfile
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from clary.algorithms.kmeans import KMeansModel

from .serving import BUCKET, Serving, archive, centres, gone, refusal
from .up import IMAGE, ROLE, until

NOTHING = "import time\ntime.sleep(60)\n"


def work(serving: Serving, name: str) -> Path:
    """The folder of an endpoint's containers."""
    return serving.folder / "work" / "endpoints" / name


def test_weights_and_a_named_variant(serving: Serving) -> None:
    """Requests go to the variants by weight, to none of weight 0 unless it is named; weights can be changed."""
    for number, name in enumerate(("w1", "w2"), 1):
        serving.model(name, centres(number))
    serving.endpoint("weighed", "w1", "w2", weights=(1.0, 0.0))
    assert {serving.ask("weighed") for _ in range(20)} == {b"0.0,1.0\n"}
    assert serving.ask("weighed", TargetVariant="w2") == b"0.0,2.0\n"
    answer = serving.runtime.invoke_endpoint(EndpointName="weighed", Body=b"0", ContentType="text/csv")
    assert answer["InvokedProductionVariant"] == "w1"
    assert "there is none called w3" in refusal(serving.ask, name="weighed", TargetVariant="w3")[1]

    def weigh(*weights: float) -> None:
        wanted = [
            {"VariantName": name, "DesiredWeight": weight} for name, weight in zip(("w1", "w2"), weights, strict=True)
        ]
        serving.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName="weighed", DesiredWeightsAndCapacities=wanted
        )

    weigh(1, 3)
    counts = Counter(serving.ask("weighed") for _ in range(200))
    assert 100 < counts[b"0.0,2.0\n"] < 195
    described = serving.sagemaker.describe_endpoint(EndpointName="weighed")["ProductionVariants"]
    assert [one["CurrentWeight"] for one in described] == [1.0, 3.0]
    weigh(0, 0)
    assert "every weight is 0" in refusal(serving.ask, name="weighed")[1]
    text = refusal(
        serving.sagemaker.update_endpoint_weights_and_capacities,
        EndpointName="weighed",
        DesiredWeightsAndCapacities=[{"VariantName": "w9", "DesiredWeight": 1}],
    )[1]
    assert text.startswith('Variant "w9" does not exist')
    serving.delete("weighed")


def test_an_update_under_load(serving: Serving) -> None:
    """No request fails while the model is replaced, and the containers of before end."""
    serving.endpoint("updated", serving.model("old", centres(1)))
    before = serving.servers("updated")
    serving.config("newer", serving.model("new", centres(2)))
    answers: list[bytes] = []
    failures: list[Exception] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            try:
                answers.append(serving.ask("updated"))
            except Exception as error:  # noqa: BLE001  # any failure is one
                failures.append(error)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    serving.sagemaker.update_endpoint(EndpointName="updated", EndpointConfigName="newer")
    code, text = refusal(serving.sagemaker.update_endpoint, EndpointName="updated", EndpointConfigName="newer")
    assert (code, text.startswith("Cannot update in-progress endpoint")) == ("ValidationException", True)
    found = serving.settled("updated")
    until(lambda: answers[-1] == b"0.0,2.0\n")
    until(lambda: all(map(gone, before)))
    ended.set()
    for thread in threads:
        thread.join(60)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "newer")
    assert (failures, {*answers}) == ([], {b"0.0,1.0\n", b"0.0,2.0\n"})
    serving.delete("updated")


def test_an_update_that_fails(serving: Serving) -> None:
    """The endpoint answers as before, is in service, and says why."""
    serving.endpoint("kept", serving.model("good", centres(1)))
    serving.config("worse", serving.model("bad", b"no archive"))
    serving.sagemaker.update_endpoint(EndpointName="kept", EndpointConfigName="worse")
    found = serving.settled("kept")
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "kept")
    assert found["FailureReason"].startswith('Failed to extract model data archive for container "primary" from URL')
    assert serving.ask("kept") == b"0.0,1.0\n"
    serving.delete("kept")


def test_an_update_may_keep_weights(serving: Serving) -> None:
    """RetainAllVariantProperties keeps what a variant of the same name had, but for what is excluded."""
    model = serving.model("kept-weight", centres(1))
    serving.endpoint("retained", model, weights=(7.0,))
    serving.config("retained-2", model, weights=(2.0,))
    weight = {"VariantPropertyType": "DesiredWeight"}
    for request, wanted in [({}, 7.0), ({"ExcludeRetainedVariantProperties": [weight]}, 2.0)]:
        serving.sagemaker.update_endpoint(
            EndpointName="retained", EndpointConfigName="retained-2", RetainAllVariantProperties=True, **request
        )
        assert serving.settled("retained")["ProductionVariants"][0]["CurrentWeight"] == wanted
    serving.delete("retained")


def test_a_server_that_is_killed(serving: Serving) -> None:
    """The endpoint says that it has failed and why, and is in service again with another process."""
    serving.endpoint("killed", serving.model("mortal", centres(3)))
    first = serving.servers("killed")
    for process in first:
        os.kill(process, signal.SIGKILL)
    found = until(
        lambda: (
            described
            if (described := serving.sagemaker.describe_endpoint(EndpointName="killed"))["EndpointStatus"] == "Failed"
            else None
        )
    )
    assert "the container primary has ended with exit code 137" in found["FailureReason"]
    until(lambda: serving.status("killed") == "InService")
    assert "FailureReason" not in serving.sagemaker.describe_endpoint(EndpointName="killed")
    assert serving.ask("killed") == b"0.0,3.0\n"
    assert not {*first} & {*serving.servers("killed")}
    serving.delete("killed")


def test_deleting_frees_everything(serving: Serving) -> None:
    """Nothing is left of processes and folders when the endpoint is not described any more; its name is free."""
    model = serving.model("freed", centres(4))
    serving.endpoint("freed", model)
    processes = serving.servers("freed")
    assert processes and work(serving, "freed").is_dir()
    serving.delete("freed")
    assert all(map(gone, processes))
    assert not work(serving, "freed").exists()
    assert "not found" in refusal(serving.ask, name="freed")[1]
    serving.sagemaker.create_endpoint(EndpointName="freed", EndpointConfigName="freed")
    assert serving.settled("freed")["EndpointStatus"] == "InService"
    serving.delete("freed")


def test_deleting_what_is_being_created(serving: Serving) -> None:
    """A container that never answers is not waited for."""
    serving.model("silent", Image=serving.script("silent", NOTHING))
    serving.sagemaker.create_endpoint(EndpointName="silent", EndpointConfigName=serving.config("silent", "silent"))
    until(lambda: serving.servers("silent"))
    assert "its status is Creating" in refusal(serving.ask, name="silent")[1]
    serving.delete("silent")
    assert serving.servers("silent") == []


def test_many_at_once(serving: Serving) -> None:
    """Endpoints that are created together answer each with its own model."""
    names = [f"many-{number}" for number in range(5)]
    for number, name in enumerate(names):
        serving.config(name, serving.model(name, centres(number)))
    for name in names:
        serving.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert [serving.settled(name)["EndpointStatus"] for name in names] == ["InService"] * 5
    assert [serving.ask(name) for name in names] == [f"0.0,{number}.0\n".encode() for number in range(5)]
    for name in names:
        serving.sagemaker.delete_endpoint(EndpointName=name)
    until(lambda: not {*names} & {*serving.endpoints()})


def bomb() -> bytes:
    """An archive that says it holds more than a disk."""
    member = tarfile.TarInfo("model")
    member.size = 1 << 40
    return gzip.compress(member.tobuf() + bytes(1 << 16))


def linked() -> bytes:
    """An archive with a link to a file of this machine."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as made:
        member = tarfile.TarInfo("model_algo-1")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        made.addfile(member)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("outside", archive({"../outside": b"x"}), "leads out of the model's folder"),
        ("absolute", archive({"/tmp/outside": b"x"}), "leads out of the model's folder"),  # noqa: S108
        ("linked", linked(), "neither a file nor a directory"),
        ("bomb", bomb(), "too large"),
        ("damaged", b"nothing", "no tar.gz archive"),
        ("empty", archive({"other": b"x"}), "did not pass the ping health check"),
        ("absent", None, "Please ensure that there is an object located at the URL"),
    ],
)
def test_a_model_that_cannot_be_served(serving: Serving, name: str, content: bytes | None, told: str) -> None:
    """The endpoint fails, says why, and can be deleted."""
    name = f"hostile-{name}"
    serving.model(name, content, **({} if content else {"ModelDataUrl": f"s3://{BUCKET}/none.tar.gz"}))
    found = serving.endpoint(name, name)
    assert (found["EndpointStatus"], told in found["FailureReason"]) == ("Failed", True), found["FailureReason"]
    assert "its status is Failed" in refusal(serving.ask, name=name)[1]
    assert serving.servers(name) == []
    serving.delete(name)
    assert not work(serving, name).exists()


def test_keys_that_lead_out(serving: Serving) -> None:
    """An object below the prefix whose key climbs out of the model's folder is none that is fetched."""
    serving.put("climbing/../../../../escaped", b"x")
    source = {"S3Uri": f"s3://{BUCKET}/climbing/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    serving.model("climbing", ModelDataSource={"S3DataSource": source})
    found = serving.endpoint("climbing", "climbing")
    assert found["EndpointStatus"] == "Failed"
    assert "leads out of the model's folder" in found["FailureReason"], found["FailureReason"]
    assert not list(serving.folder.rglob("escaped"))
    serving.delete("climbing")


def test_a_failed_endpoint_can_be_updated(serving: Serving) -> None:
    """It is in service with the next configuration."""
    assert serving.endpoint("mended", serving.model("broken", b"nothing"))["EndpointStatus"] == "Failed"
    serving.config("mended-2", serving.model("whole", centres(6)))
    serving.sagemaker.update_endpoint(EndpointName="mended", EndpointConfigName="mended-2")
    assert serving.settled("mended")["EndpointStatus"] == "InService"
    assert serving.ask("mended") == b"0.0,6.0\n"
    serving.delete("mended")


def test_uncompressed_model_data(serving: Serving) -> None:
    """A prefix of objects, or one object, lies in the model's folder as it is."""
    with tarfile.open(fileobj=io.BytesIO(centres(8))) as made:
        content = made.extractfile("model_algo-1")
        assert content is not None
        raw = content.read()
    for kind, key, uri in [
        ("S3Prefix", "plain/model_algo-1", f"s3://{BUCKET}/plain/"),
        ("S3Object", "object/model_algo-1", f"s3://{BUCKET}/object/model_algo-1"),
    ]:
        serving.put(key, raw)
        source = {"S3Uri": uri, "S3DataType": kind, "CompressionType": "None"}
        name = serving.model(f"raw-{kind}", ModelDataSource={"S3DataSource": source})
        assert serving.endpoint(name, name)["EndpointStatus"] == "InService"
        assert serving.ask(name) == b"0.0,8.0\n"
        serving.delete(name)


def test_logs(serving: Serving) -> None:
    """What a container prints is in CloudWatch Logs, in the stream of its variant."""
    serving.endpoint("logged", serving.model("talker", centres(1)))
    logs = serving.client("logs")
    group = "/aws/sagemaker/Endpoints/logged"

    def said() -> list[str]:
        [stream] = logs.describe_log_streams(logGroupName=group)["logStreams"]
        assert stream["logStreamName"].startswith("talker/i-")
        events = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True)
        return [event["message"] for event in events["events"]]

    until(lambda: "Docker entrypoint called with argument(s): serve" in said())
    serving.delete("logged")


def test_a_row_of_models(serving: Serving) -> None:
    """Containers of a pipeline are asked one after the other; a refusal names the one whose it is."""
    csv = {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"}  # the first says which centre it is and how far
    first = {"Image": IMAGE("kmeans"), "ModelDataUrl": serving.put("row/1.tar.gz", centres(0, 10)), "Environment": csv}
    plane = KMeansModel(np.array([[1, 2], [0, 2]], np.float32)).to_bytes()
    fits = {"Image": IMAGE("kmeans"), "ModelDataUrl": serving.put("row/2.tar.gz", archive({"model_algo-1": plane}))}
    odd = {
        "Image": IMAGE("kmeans"),
        "ModelDataUrl": serving.put("row/3.tar.gz", centres(1)),
        "ContainerHostname": "odd",
    }
    for name, containers in (("row", [first, fits]), ("odd", [first, odd])):
        serving.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, Containers=containers)
        assert serving.endpoint(name, name)["EndpointStatus"] == "InService"
    assert serving.ask("row", b"12\n1") == b"0.0,0.0\n1.0,1.0\n"
    for name, body, whose in [("row", b"1,2", "container-1"), ("odd", b"12", "container-2")]:
        code, text = refusal(serving.ask, name=name, body=body)
        assert code == "ModelError"
        assert text.startswith(f'Received client error (400) from {whose} with message "'), text
        serving.delete(name)


def test_containers_asked_directly(serving: Serving) -> None:
    """In Direct mode the request says which container."""
    definitions = [
        {
            "Image": IMAGE("kmeans"),
            "ModelDataUrl": serving.put(f"direct/{at}.tar.gz", centres(at)),
            "ContainerHostname": f"host-{at}",
        }
        for at in (1, 2)
    ]
    serving.sagemaker.create_model(
        ModelName="direct",
        ExecutionRoleArn=ROLE,
        Containers=definitions,
        InferenceExecutionConfig={"Mode": "Direct"},
    )
    serving.endpoint("direct", "direct")
    answers = [serving.ask("direct", TargetContainerHostname=f"host-{at}") for at in (1, 2)]
    assert answers == [b"0.0,1.0\n", b"0.0,2.0\n"]
    for request, told in [({}, "is missing"), ({"TargetContainerHostname": "other"}, "other has to be one of host-1")]:
        code, text = refusal(serving.ask, name="direct", **request)
        assert (code, told in text) == ("ValidationError", True), text
    serving.delete("direct")


def test_a_platform_that_is_killed(serving: Serving) -> None:
    """Its endpoints are up again with the next one, and one that was being deleted is gone."""
    serving.endpoint("lasting", serving.model("lasting", centres(9)), weights=(3.0,))
    serving.endpoint("leaving", serving.model("leaving", centres(9)))
    before = serving.servers("lasting")
    serving.sagemaker.delete_endpoint(EndpointName="leaving")
    serving.restart()
    serving.connect()
    found = serving.settled("lasting")
    assert (found["EndpointStatus"], found["ProductionVariants"][0]["CurrentWeight"]) == ("InService", 3.0)
    assert serving.ask("lasting") == b"0.0,9.0\n"
    until(lambda: all(map(gone, before)))
    until(lambda: serving.endpoints() == ["lasting"])
    assert not work(serving, "leaving").exists()
    until(lambda: len(list(work(serving, "lasting").iterdir())) == 1)
    serving.delete("lasting")
