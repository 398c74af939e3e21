"""What a job's host finds under /opt/ml when it starts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from ..containers.tree import Tree

__all__ = ["build", "inside"]

_ROOT: Final = PurePosixPath("/opt/ml")
_GROUP: Final = "homogeneousCluster"


def build(
    tree: Tree, request: Mapping[str, Any], channels: Mapping[str, Mapping[str, str]], host: str, hosts: Sequence[str]
) -> None:
    """Write the configuration of one host.

    Parameters
    ----------
    tree
        Of the host.
    request
        That of CreateTrainingJob.
    channels
        What inputdataconfig.json says of each.
    host, hosts
        The host's name, and those of all.
    """
    for folder in (tree.config, tree.data, tree.model, tree.root / "output/data"):
        folder.mkdir(parents=True, exist_ok=True)
    instance = request["ResourceConfig"].get("InstanceType", "local")
    group = {"instance_group_name": _GROUP, "instance_type": instance, "hosts": list(hosts)}
    files: dict[str, Any] = {
        "hyperparameters": request.get("HyperParameters", {}),
        "inputdataconfig": channels,
        "resourceconfig": {
            "current_host": host,
            "current_instance_type": instance,
            "current_group_name": _GROUP,
            "hosts": list(hosts),
            "instance_groups": [group],
            "network_interface_name": "eth0",
            "topology": None,
        },
        "trainingjobconfig": request,
        "metric-definition-regex": [],
        "upstreamoutputdataconfig": [],
    }
    if "CheckpointConfig" in request:
        files["checkpointconfig"] = {"LocalPath": request["CheckpointConfig"].get("LocalPath", f"{_ROOT}/checkpoints")}
    for name, content in files.items():
        (tree.config / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def inside(tree: Tree, path: str) -> Path:
    """Where in the tree a path lies that the job knows as one below /opt/ml; one elsewhere is put into the tree too."""
    pure = PurePosixPath("/", *(part for part in PurePosixPath(path).parts if part != ".."))
    return tree.root / (pure.relative_to(_ROOT) if pure.is_relative_to(_ROOT) else pure.relative_to("/"))
