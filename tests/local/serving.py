"""A platform that serves models, and what tests of endpoints share."""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

from clary.algorithms.kmeans import KMeansModel

from .up import IMAGE, ROLE, Up, until

__all__ = ["BUCKET", "Serving", "archive", "centres", "gone", "refusal"]

BUCKET = "models"


def archive(files: Mapping[str, bytes]) -> bytes:
    """A ``tar.gz`` of files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as made:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return out.getvalue()


def centres(*points: float) -> bytes:
    """The archive of a k-means model with centres on a line; for 0 it answers the place of the first."""
    return archive({"model_algo-1": KMeansModel(np.array(points, np.float32)[:, None]).to_bytes()})


def refusal(ask: Any, **request: Any) -> tuple[str, str]:
    """Code and message of a refused request."""
    with pytest.raises(ClientError) as caught:
        ask(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def gone(process: int) -> bool:
    """Whether there is no such process, or nobody has waited for its end."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class Serving(Up):
    """A platform where images called ``script/NAME`` are the scripts that `script` has written."""

    program = (sys.executable, str(Path(__file__).with_name("foreign.py")))

    def __init__(self, folder: Path) -> None:
        self.scripts = folder.with_name("scripts")
        self.scripts.mkdir()
        super().__init__(folder, environment={"FOREIGN_SCRIPTS": str(self.scripts)})
        self.connect()
        self.s3.create_bucket(Bucket=BUCKET)

    def connect(self) -> None:
        """Make clients for where it is now."""
        self.s3, self.sagemaker = self.client("s3"), self.client("sagemaker")
        self.runtime = self.client("sagemaker-runtime", read_timeout=90, max_pool_connections=40)

    def put(self, key: str, content: bytes) -> str:
        """Keep an object; its URI."""
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"s3://{BUCKET}/{key}"

    def script(self, name: str, text: str) -> str:
        """Keep a script; the image of it. Variable ``PORT`` is where it has to listen."""
        head = "import os, sys, threading\nPORT = int(os.environ['SAGEMAKER_BIND_TO_PORT'])\n"
        watch = "threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()\n"
        (self.scripts / f"{name}.py").write_text(head + watch + text)
        return f"script/{name}"

    def model(self, name: str, content: bytes | None = None, **container: Any) -> str:
        """Create a model of k-means, unless another image is named; its name."""
        if content is not None:
            container["ModelDataUrl"] = self.put(f"{name}/model.tar.gz", content)
        primary = {"Image": IMAGE("kmeans"), **container}
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=primary)
        return name

    def config(self, name: str, *models: str, weights: tuple[float, ...] = (), **more: Any) -> str:
        """Create a configuration with a variant for each model, called as that."""
        variants = [
            {"VariantName": model, "ModelName": model, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
            for model in models
        ]
        for variant, weight in zip(variants, weights, strict=False):
            variant["InitialVariantWeight"] = weight
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants, **more)
        return name

    def endpoint(self, name: str, *models: str, **more: Any) -> dict[str, Any]:
        """Create an endpoint of models with a configuration called as it, and wait until it is there."""
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=self.config(name, *models, **more))
        return self.settled(name)

    def status(self, name: str) -> str:
        """How an endpoint is."""
        return str(self.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"])

    def settled(self, name: str) -> dict[str, Any]:
        """The description of an endpoint that is neither being created nor updated."""
        until(lambda: self.status(name) not in ("Creating", "Updating"))
        found: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=name)
        return found

    def ask(self, name: str, body: bytes = b"0", **request: Any) -> bytes:
        """The answer to a row of CSV."""
        given = {"ContentType": "text/csv", "Accept": "text/csv", **request}
        answer: bytes = self.runtime.invoke_endpoint(EndpointName=name, Body=body, **given)["Body"].read()
        return answer

    def delete(self, name: str) -> None:
        """Delete an endpoint and wait until there is nothing of it."""
        self.sagemaker.delete_endpoint(EndpointName=name)
        until(lambda: name not in self.endpoints())

    def endpoints(self) -> list[str]:
        """Names of all endpoints."""
        return [one["EndpointName"] for one in self.sagemaker.list_endpoints(MaxResults=100)["Endpoints"]]

    def servers(self, name: str) -> list[int]:
        """The processes whose folder is one of an endpoint's."""
        folder = self.folder / "work" / "endpoints" / name
        found = []
        for entry in Path("/proc").iterdir():
            try:
                where = (entry / "cwd").readlink()
            except OSError:
                continue
            if entry.name.isdigit() and where.is_relative_to(folder):
                found.append(int(entry.name))
        return sorted(found)
