# pyright: basic, reportMissingImports=false
"""A user's script for local mode of the SageMaker Python SDK v2, which runs in that SDK's environment.

``python v2_local.py SPEC ANSWER``: a JSON file says what to do, another what came of it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sagemaker import KMeans, image_uris
from sagemaker.amazon.amazon_estimator import RecordSet
from sagemaker.amazon.common import RecordSerializer
from sagemaker.deserializers import BytesDeserializer
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.local import LocalSession
from sagemaker.serializers import CSVSerializer, JSONSerializer, LibSVMSerializer

ROLE = "arn:aws:iam::111111111111:role/dummy"
SERIALIZERS = {
    "csv": CSVSerializer,
    "json": JSONSerializer,
    "libsvm": LibSVMSerializer,
    "recordio": RecordSerializer,
}


def job(spec: dict[str, Any], session: LocalSession) -> dict[str, Any]:
    """Train, deploy and transform."""
    answer: dict[str, Any] = {}
    estimator = Estimator(
        image_uri=spec["image"],
        role=ROLE,
        instance_count=spec["instances"],
        instance_type="local",
        output_path=f"file://{spec['output']}",
        hyperparameters=spec["hyperparameters"],
        sagemaker_session=session,
    )
    try:
        estimator.fit(
            {
                name: TrainingInput(f"file://{channel['path']}", content_type=channel["content_type"])
                for name, channel in spec["channels"].items()
            }
        )
    except RuntimeError as error:
        return {"error": str(error)}
    answer["model_data"] = estimator.model_data
    if spec["requests"]:
        answer["answers"] = endpoint(estimator, spec["requests"])
    for transform in spec["transforms"]:
        batch(estimator, transform, Path(spec["root"]) / transform["name"])
    return answer


def endpoint(estimator: Estimator, requests: list[dict[str, Any]]) -> list[str]:
    """The answers of an endpoint to some requests."""
    # With wait=True the SDK sleeps half a minute before it first looks, though the container is up by then.
    predictor = estimator.deploy(
        initial_instance_count=1,
        instance_type="local",
        deserializer=BytesDeserializer(accept="application/json"),
        wait=False,
    )
    try:
        answers = []
        for request in requests:
            form, data = request["form"], request["data"]
            predictor.serializer = SERIALIZERS[form]()
            if form == "recordio":
                data = np.array(data, np.float32)
            answers.append(predictor.predict(data).decode())
        return answers
    finally:
        predictor.delete_endpoint()


def batch(estimator: Estimator, spec: dict[str, Any], output: Path) -> None:
    """Run one batch transform."""
    transformer = estimator.transformer(
        instance_count=1,
        instance_type="local",
        output_path=f"file://{output}",
        accept=spec["accept"],
        strategy=spec["strategy"],
    )
    # wait or logs would ask CloudWatch.
    transformer.transform(
        f"file://{spec['input']}",
        content_type=spec["content_type"],
        split_type=spec["split"],
        wait=False,
        logs=False,
    )


def sdk_alone(spec: dict[str, Any], session: LocalSession) -> dict[str, Any]:
    """AWS's name of an image, and what becomes of a job of the SDK's own class of an algorithm."""
    estimator = KMeans(
        role=ROLE,
        instance_count=1,
        instance_type="local",
        k=2,
        data_location="s3://nowhere/data",
        output_path=f"file://{spec['output']}",
        sagemaker_session=session,
    )
    answer = {"uri": image_uris.retrieve("linear-learner", "ap-south-1")}
    try:
        estimator.fit(RecordSet("s3://nowhere/data/manifest", num_records=4, feature_dim=2), mini_batch_size=4)
    except RuntimeError as error:
        answer["error"] = str(error)
    return answer


def main() -> None:
    """Do what the spec says."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    session = LocalSession()
    session.config = {
        "local": {"local_code": True, "container_root": spec["container_root"], "serving_port": spec["port"]}
    }
    answer = job(spec, session) if "image" in spec else sdk_alone(spec, session)
    Path(sys.argv[2]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
