"""Models, configurations of endpoints and endpoints, as boto3 asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .serving import Serving, centres, refusal
from .up import IMAGE, ROLE, Up

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
ONE = {"Image": IMAGE("kmeans")}


def variant(model: str, name: str = "a", **more: Any) -> dict[str, Any]:
    """An entry of ProductionVariants."""
    return {"VariantName": name, "ModelName": model, "InstanceType": "ml.m5.large", "InitialInstanceCount": 2, **more}


def test_a_model(serving: Serving) -> None:
    """A model is described as it was created, listed, tagged, and forgotten."""
    client = serving.sagemaker
    primary = {**ONE, "Environment": {"A": "1"}, "ModelDataUrl": "s3://models/x.tar.gz"}
    arn = client.create_model(
        ModelName="My-Model", ExecutionRoleArn=ROLE, PrimaryContainer=primary, Tags=[{"Key": "k", "Value": "v"}]
    )["ModelArn"]
    assert arn == f"{ARN}:model/my-model"
    found = client.describe_model(ModelName="My-Model")
    assert (found["ModelArn"], found["PrimaryContainer"], found["ExecutionRoleArn"]) == (arn, primary, ROLE)
    assert client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "k", "Value": "v"}]
    [listed] = client.list_models(NameContains="My-M")["Models"]
    assert (listed["ModelArn"], listed["CreationTime"]) == (arn, found["CreationTime"])
    client.delete_model(ModelName="My-Model")
    assert client.list_models(NameContains="My-M")["Models"] == []
    assert refusal(client.list_tags, ResourceArn=arn)[1] == f'Could not find model "{arn}".'
    client.create_model(ModelName="My-Model", ExecutionRoleArn=ROLE, PrimaryContainer=primary)
    assert client.list_tags(ResourceArn=arn)["Tags"] == []


def test_names_are_taken_or_unknown(serving: Serving) -> None:
    """The texts are those that SDKs look for."""
    client = serving.sagemaker
    serving.config("taken", serving.model("taken"))
    model = {"ExecutionRoleArn": ROLE, "PrimaryContainer": ONE}
    config = {"ProductionVariants": [variant("taken")]}
    for member, word, kind, called, request in [
        ("ModelName", "model", "model", "model", model),
        ("EndpointConfigName", "endpoint_config", "endpoint-config", "endpoint configuration", config),
    ]:
        code, text = refusal(getattr(client, f"create_{word}"), **{member: "taken"}, **request)
        assert code == "ValidationException"
        assert text == f'Cannot create already existing {called} "{ARN}:{kind}/taken".'
        for verb in ("describe", "delete"):
            code, text = refusal(getattr(client, f"{verb}_{word}"), **{member: "Absent"})
            assert (code, text) == ("ValidationException", f'Could not find {called} "{ARN}:{kind}/absent".')
    absent = f'Could not find endpoint "{ARN}:endpoint/absent".'
    for ask in (client.describe_endpoint, client.delete_endpoint):
        assert refusal(ask, EndpointName="absent") == ("ValidationException", absent)
    assert refusal(client.update_endpoint, EndpointName="absent", EndpointConfigName="taken")[1] == absent
    text = refusal(client.create_endpoint, EndpointName="e", EndpointConfigName="absent")[1]
    assert text == f'Could not find endpoint configuration "{ARN}:endpoint-config/absent".'


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({}, "Exactly one of PrimaryContainer and Containers"),
        ({"PrimaryContainer": ONE, "Containers": [ONE]}, "Exactly one of PrimaryContainer and Containers"),
        ({"Containers": []}, "Containers has to have 1 to 15"),
        ({"Containers": [{**ONE, "ContainerHostname": "a"}] * 2}, "each ContainerHostname has to be another"),
        ({"PrimaryContainer": {"ModelDataUrl": "s3://models/x"}}, "container 1 has no Image"),
        ({"PrimaryContainer": {**ONE, "Mode": "MultiModel"}}, "ModelDataUrl has to be the s3:// prefix"),
        ({"Containers": [ONE, {**ONE, "Mode": "MultiModel"}]}, "has to be the only one"),
        ({"PrimaryContainer": {"Image": "somebody/else"}}, "there is no image somebody/else"),
    ],
)
def test_a_model_that_cannot_run(serving: Serving, request_: dict[str, Any], told: str) -> None:
    """It is refused before it is kept."""
    code, text = refusal(serving.sagemaker.create_model, ModelName="bad", ExecutionRoleArn=ROLE, **request_)
    assert (code, told in text) == ("ValidationException", True), text
    assert serving.sagemaker.list_models(NameContains="bad")["Models"] == []


def test_somebody_elses_image_needs_docker(tmp_path: Path) -> None:
    """Without a Docker engine a model of any other image is refused, and ours is not."""
    up = Up(tmp_path / "state", environment={"DOCKER_HOST": f"unix://{tmp_path}/nobody"})
    try:
        client = up.client("sagemaker")
        given = {"ModelName": "theirs", "ExecutionRoleArn": ROLE}
        code, text = refusal(client.create_model, **given, PrimaryContainer={"Image": "somebody/else:1"})
        assert (code, "Docker" in text) == ("ValidationException", True), text
        assert client.create_model(**{**given, "ModelName": "ours"}, PrimaryContainer=ONE)
    finally:
        up.stop()


def test_a_configuration(serving: Serving) -> None:
    """What does nothing here is described all the same, as it was created."""
    client = serving.sagemaker
    serving.model("described")
    request = {
        "ProductionVariants": [variant("described", InitialVariantWeight=0.5)],
        "DataCaptureConfig": {
            "EnableCapture": True,
            "InitialSamplingPercentage": 50,
            "DestinationS3Uri": "s3://models/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}],
        },
        "AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://models/out"}},
    }
    client.create_endpoint_config(EndpointConfigName="described", **request)
    found = client.describe_endpoint_config(EndpointConfigName="described")
    assert {name: found[name] for name in request} == request
    assert found["EndpointConfigArn"] == f"{ARN}:endpoint-config/described"
    assert "described" in [one["EndpointConfigName"] for one in client.list_endpoint_configs()["EndpointConfigs"]]
    client.delete_endpoint_config(EndpointConfigName="described")
    assert refusal(client.describe_endpoint_config, EndpointConfigName="described")[0] == "ValidationException"


def test_a_configuration_that_is_refused(serving: Serving) -> None:
    """Variants have different names and models that exist."""
    client = serving.sagemaker
    serving.model("known")
    for variants, told in [
        ([variant("known"), variant("known")], "each VariantName has to be another one"),
        ([variant("nobody")], f'Could not find model "{ARN}:model/nobody".'),
        ([{"VariantName": "a", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}], "has no ModelName"),
    ]:
        code, text = refusal(client.create_endpoint_config, EndpointConfigName="bad", ProductionVariants=variants)
        assert (code, told in text) == ("ValidationException", True), text


def test_an_endpoint_is_described(serving: Serving) -> None:
    """Its variants have weights, counts and images; models and configuration may be deleted while it runs."""
    client = serving.sagemaker
    serving.model("shown", centres(0, 5))
    client.create_endpoint_config(EndpointConfigName="shown", ProductionVariants=[variant("shown", "only")])
    arn = client.create_endpoint(EndpointName="shown", EndpointConfigName="shown")["EndpointArn"]
    assert arn == f"{ARN}:endpoint/shown"
    text = refusal(client.create_endpoint, EndpointName="shown", EndpointConfigName="shown")[1]
    assert text == f'Cannot create already existing endpoint "{arn}".'
    client.get_waiter("endpoint_in_service").wait(EndpointName="shown", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    found = client.describe_endpoint(EndpointName="shown")
    [one] = found["ProductionVariants"]
    assert (one["VariantName"], one["CurrentWeight"], one["DesiredInstanceCount"]) == ("only", 1.0, 2)
    assert one["DeployedImages"][0]["SpecifiedImage"] == IMAGE("kmeans")
    assert (found["EndpointConfigName"], found["EndpointStatus"]) == ("shown", "InService")
    assert "FailureReason" not in found
    [listed] = client.list_endpoints(StatusEquals="InService", NameContains="shown")["Endpoints"]
    assert (listed["EndpointArn"], listed["EndpointStatus"]) == (arn, "InService")
    client.delete_endpoint_config(EndpointConfigName="shown")
    client.delete_model(ModelName="shown")
    assert serving.ask("shown") == b"0.0,0.0\n"
    client.delete_endpoint(EndpointName="shown")
    client.get_waiter("endpoint_deleted").wait(EndpointName="shown", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    assert refusal(client.describe_endpoint, EndpointName="shown")[1] == f'Could not find endpoint "{arn}".'
