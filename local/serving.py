"""The operations on models, endpoint configurations and endpoints."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

from ..containers.pipeline import LIMITS
from ..containers.registries import algorithm_of
from ..containers.tree import Tree
from .endpoints import KIND as ENDPOINT
from .endpoints import Endpoint, live_endpoint
from .executors import Container
from .faults import ValidationException
from .operations import Call, operation
from .platform import Platform
from .served import containers_of
from .store import Listing, Thing, insist

__all__ = ["take_up_endpoints"]

_MODEL: Final = "model"
_CONFIG: Final = "endpoint-config"
_CALLED: Final = {_MODEL: "model", _CONFIG: "endpoint configuration", ENDPOINT: "endpoint"}
_ARNS: Final = {_MODEL: "ModelArn", _CONFIG: "EndpointConfigArn"}
_BUSY: Final = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")


@operation
def create_model(call: Call) -> Mapping[str, Any]:
    """Keep a model, which can be run here."""
    request, name = call.request, call.request["ModelName"]
    if ("PrimaryContainer" in request) == ("Containers" in request):
        raise ValidationException("Exactly one of PrimaryContainer and Containers has to be given")
    if not 1 <= len(request.get("Containers", [{}])) <= LIMITS[1]:
        raise ValidationException(f"Containers has to have 1 to {LIMITS[1]} members")
    definitions = containers_of(request)
    if len(definitions) < len(request.get("Containers", ())):
        raise ValidationException("Containers: each ContainerHostname has to be another one")
    for number, (host, definition) in enumerate(definitions.items()):
        _check_container(call, host, definition, alone=len(definitions) == 1, where=number)
    arn = _added(call, _MODEL, name, {"ModelArn": call.arn(_MODEL, name), **request})
    return {"ModelArn": arn}


@operation
def describe_model(call: Call) -> Mapping[str, Any]:
    """A model."""
    return _described(_found(call, _MODEL, call.request["ModelName"]))


@operation
def list_models(call: Call) -> Mapping[str, Any]:
    """Models."""
    return _listed(call, _MODEL, "Models")


@operation
def delete_model(call: Call) -> Mapping[str, Any]:
    """Forget a model; what runs with it goes on."""
    return _removed(call, _MODEL, call.request["ModelName"])


@operation
def create_endpoint_config(call: Call) -> Mapping[str, Any]:
    """Keep a configuration whose models exist."""
    request, name = call.request, call.request["EndpointConfigName"]
    _check_variants(call, request["ProductionVariants"] + request.get("ShadowProductionVariants", []))
    arn = _added(call, _CONFIG, name, {"EndpointConfigArn": call.arn(_CONFIG, name), **request})
    return {"EndpointConfigArn": arn}


@operation
def describe_endpoint_config(call: Call) -> Mapping[str, Any]:
    """A configuration."""
    return _described(_found(call, _CONFIG, call.request["EndpointConfigName"]))


@operation
def list_endpoint_configs(call: Call) -> Mapping[str, Any]:
    """Configurations."""
    return _listed(call, _CONFIG, "EndpointConfigs")


@operation
def delete_endpoint_config(call: Call) -> Mapping[str, Any]:
    """Forget a configuration; endpoints that have it go on."""
    return _removed(call, _CONFIG, call.request["EndpointConfigName"])


@operation
def create_endpoint(call: Call) -> Mapping[str, Any]:
    """Start an endpoint."""
    name = call.request["EndpointName"]
    plan = _plan(call, call.request["EndpointConfigName"])
    document = {
        "EndpointName": name,
        "EndpointArn": call.arn(ENDPOINT, name),
        "EndpointConfigName": plan["EndpointConfigName"],
        "EndpointStatus": "Creating",
        "ProductionVariants": _summaries(plan, {}),
        "Tags": call.request.get("Tags", ()),
        "_Region": call.region,
        "_Now": plan,
    }
    arn = _added(call, ENDPOINT, name, document, status="Creating")
    Endpoint(call.platform, name, call.region).begin()
    return {"EndpointArn": arn}


@operation
def describe_endpoint(call: Call) -> Mapping[str, Any]:
    """An endpoint as it is now."""
    thing = _found(call, ENDPOINT, call.request["EndpointName"])
    return {**_described(thing), "AsyncInferenceConfig": thing.document["_Now"]["AsyncInferenceConfig"]}


@operation
def list_endpoints(call: Call) -> Mapping[str, Any]:
    """Endpoints."""
    return _listed(call, ENDPOINT, "Endpoints")


@operation
def update_endpoint(call: Call) -> Mapping[str, Any]:
    """Give an endpoint another configuration; the one that it has answers until the other does."""
    request = call.request
    arn = call.arn(ENDPOINT, request["EndpointName"])
    plan = _plan(call, request["EndpointConfigName"])
    with call.platform.store.changing(ENDPOINT, request["EndpointName"], "EndpointStatus") as document:
        _check_idle(document, arn)
        assert document is not None  # noqa: S101  # as was checked
        kept = {one["VariantName"]: _retained(one, request) for one in document["ProductionVariants"]}
        document["_Next"] = {**plan, "Summaries": _summaries(plan, kept)}
        document["EndpointStatus"] = "Updating"
        document["LastDeploymentConfig"] = request.get("DeploymentConfig")
    if (endpoint := live_endpoint(call.platform, request["EndpointName"])) is not None:
        endpoint.update()
    return {"EndpointArn": arn}


@operation
def update_endpoint_weights_and_capacities(call: Call) -> Mapping[str, Any]:
    """Give the variants of an endpoint other shares of its requests."""
    name, wanted = call.request["EndpointName"], call.request["DesiredWeightsAndCapacities"]
    arn = call.arn(ENDPOINT, name)
    with call.platform.store.changing(ENDPOINT, name, "EndpointStatus") as document:
        _check_idle(document, arn)
        assert document is not None  # noqa: S101  # as was checked
        summaries = {one["VariantName"]: one for one in document["ProductionVariants"]}
        unknown = [one["VariantName"] for one in wanted if one["VariantName"] not in summaries]
        if unknown:
            raise ValidationException(f'Variant "{unknown[0]}" does not exist in endpoint "{arn}".')
        for one in wanted:
            weight, count = one.get("DesiredWeight"), one.get("DesiredInstanceCount")
            summaries[one["VariantName"]].update(_shares(weight, count))
        document["ProductionVariants"] = list(summaries.values())
    if (endpoint := live_endpoint(call.platform, name)) is not None:
        endpoint.weigh({one["VariantName"]: one["DesiredWeight"] for one in wanted if "DesiredWeight" in one})
    return {"EndpointArn": arn}


@operation
def delete_endpoint(call: Call) -> Mapping[str, Any]:
    """End an endpoint; it is forgotten when its containers have ended."""
    name = call.request["EndpointName"]
    with call.platform.store.changing(ENDPOINT, name, "EndpointStatus") as document:
        if document is None:
            raise _missing(ENDPOINT, call.arn(ENDPOINT, name))
        document["EndpointStatus"] = "Deleting"
    if (endpoint := live_endpoint(call.platform, name)) is not None:
        endpoint.stop()
    return {}


def take_up_endpoints(platform: Platform) -> None:
    """Bring up the endpoints of an earlier run, and finish what was being deleted."""
    for thing in insist(lambda: platform.store.all(ENDPOINT), platform.closing) or ():
        if live_endpoint(platform, thing.name) is None:  # else it was created while those of before are taken up
            insist(partial(_take_up, platform, thing.name), platform.closing)


def _take_up(platform: Platform, name: str) -> None:
    with platform.store.changing(ENDPOINT, name, "EndpointStatus") as document:
        if document is None:
            return
        if document["EndpointStatus"] != "Deleting":
            document["EndpointStatus"] = "Updating" if "_Next" in document else "Creating"
            document.pop("FailureReason", None)
    Endpoint(platform, name, document["_Region"]).begin()


def _added(call: Call, kind: str, name: str, document: Mapping[str, Any], status: str = "") -> str:
    """Keep a new thing with its tags, and tell its ARN."""

    def taken(arn: str) -> ValidationException:
        return ValidationException(f'Cannot create already existing {_CALLED[kind]} "{arn}".')

    return call.add(kind, name, document, taken, status=status)


def _found(call: Call, kind: str, name: str) -> Thing:
    thing = call.platform.store.get(kind, name)
    if thing is None:
        raise _missing(kind, call.arn(kind, name))
    return thing


def _missing(kind: str, arn: str) -> ValidationException:
    return ValidationException(f'Could not find {_CALLED[kind]} "{arn}".')


def _described(thing: Thing) -> Mapping[str, Any]:
    return {**thing.document, "CreationTime": thing.created, "LastModifiedTime": thing.modified}


def _listed(call: Call, kind: str, member: str) -> Mapping[str, Any]:
    things, token = call.platform.store.page(kind, Listing(call.request))
    return {member: [_described(thing) for thing in things], "NextToken": token}


def _removed(call: Call, kind: str, name: str) -> Mapping[str, Any]:
    thing = _found(call, kind, name)
    call.platform.store.remove(kind, name)
    call.platform.store.untag(thing.document[_ARNS[kind]])
    return {}


def _check_container(call: Call, host: str, definition: Mapping[str, Any], *, alone: bool, where: int) -> None:
    """Whether a container could be started here."""
    image = definition.get("Image")
    if not image:
        raise ValidationException(f"container {where + 1} has no Image, which it needs here: there are no packages")
    if definition.get("Mode") == "MultiModel":
        if not alone:
            raise ValidationException("a container of Mode MultiModel has to be the only one of its model")
        if not definition.get("ModelDataUrl", "").startswith("s3://"):
            raise ValidationException("ModelDataUrl has to be the s3:// prefix that the archives are in")
    container = Container(host, image, algorithm_of(image), "serve", Tree(call.platform.folder.path))
    call.platform.executor_of(container)


def _check_variants(call: Call, variants: list[Mapping[str, Any]]) -> None:
    names = [one["VariantName"] for one in variants]
    if len({*names}) < len(names):
        raise ValidationException("ProductionVariants: each VariantName has to be another one")
    for one in variants:
        if "ModelName" not in one:
            raise ValidationException(f"variant {one['VariantName']} has no ModelName: there are no components here")
        _found(call, _MODEL, one["ModelName"])


def _plan(call: Call, name: str) -> dict[str, Any]:
    """What an endpoint needs to know of its configuration, which may be deleted while it runs."""
    config = _found(call, _CONFIG, name).document
    models = {one["ModelName"]: _found(call, _MODEL, one["ModelName"]).document for one in config["ProductionVariants"]}
    return {
        "EndpointConfigName": name,
        "ProductionVariants": config["ProductionVariants"],
        "AsyncInferenceConfig": config.get("AsyncInferenceConfig"),
        "Models": models,
    }


def _summaries(plan: Mapping[str, Any], kept: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What describes the variants of a plan; `kept` is what stays of those before."""
    return [
        {
            "VariantName": one["VariantName"],
            "DeployedImages": [
                {"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": time.time()}
                for image in _images(plan["Models"][one["ModelName"]])
            ],
            **_shares(one.get("InitialVariantWeight", 1.0), one.get("InitialInstanceCount")),
            **{key: one[key] for key in ("ManagedInstanceScaling", "RoutingConfig") if key in one},
            **_serverless(one),
            **kept.get(one["VariantName"], {}),
        }
        for one in plan["ProductionVariants"]
    ]


def _images(model: Mapping[str, Any]) -> Iterable[str]:
    return (definition["Image"] for definition in containers_of(model).values())


def _shares(weight: float | None, count: int | None) -> dict[str, Any]:
    """A variant's weight and number of instances, where they are known."""
    given = {"CurrentWeight": weight, "DesiredWeight": weight}
    given |= {"CurrentInstanceCount": count, "DesiredInstanceCount": count}
    return {name: value for name, value in given.items() if value is not None}


def _serverless(variant: Mapping[str, Any]) -> dict[str, Any]:
    config = variant.get("ServerlessConfig")
    return {} if config is None else {"CurrentServerlessConfig": config, "DesiredServerlessConfig": config}


def _retained(summary: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    """What a variant keeps in an update."""
    if not request.get("RetainAllVariantProperties"):
        return {}
    given_up = {one["VariantPropertyType"] for one in request.get("ExcludeRetainedVariantProperties", ())}
    weight = None if "DesiredWeight" in given_up else summary["CurrentWeight"]
    count = None if "DesiredInstanceCount" in given_up else summary.get("CurrentInstanceCount")
    return _shares(weight, count)


def _check_idle(document: Mapping[str, Any] | None, arn: str) -> None:
    """Whether an endpoint can be changed."""
    if document is None:
        raise _missing(ENDPOINT, arn)
    if document["EndpointStatus"] in _BUSY:
        raise ValidationException(f'Cannot update in-progress endpoint "{arn}".')
