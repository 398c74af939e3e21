# pyright: basic, reportMissingImports=false
"""A user's script for the SageMaker Python SDK v3, which runs in that SDK's environment; it is the same on AWS.

``python v3_platform.py DATA ANSWER``: rows of three columns lie below a prefix in S3; what came of it goes to a JSON
file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData, OutputDataConfig

ROLE = "arn:aws:iam::123456789012:role/SageMaker"
IMAGE = "382416733822.dkr.ecr.us-east-1.amazonaws.com/kmeans:1"


def main() -> None:
    """Train, deploy, ask."""
    data = sys.argv[1]
    trainer = ModelTrainer(
        training_image=IMAGE,
        role=ROLE,
        compute=Compute(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=1),
        hyperparameters={"k": 2, "feature_dim": 3},
        output_data_config=OutputDataConfig(s3_output_path=f"{data.removesuffix('in/')}v3"),
        base_job_name="v3",
    )
    trainer.train([InputData(channel_name="train", data_source=data, content_type="text/csv;label_size=0")], wait=True)
    job = trainer._latest_training_job.refresh()
    artifact = job.model_artifacts.s3_model_artifacts

    container = ContainerDefinition(image=IMAGE, model_data_url=artifact)
    Model.create(model_name="v3", primary_container=container, execution_role_arn=ROLE)
    variant = ProductionVariant(
        variant_name="all", model_name="v3", instance_type="ml.m5.large", initial_instance_count=1
    )
    EndpointConfig.create(endpoint_config_name="v3", production_variants=[variant])
    endpoint = Endpoint.create(endpoint_name="v3", endpoint_config_name="v3")
    endpoint.wait_for_status("InService")
    said = endpoint.invoke(body="0.3,0.2,1\n10.3,0.2,1\n", content_type="text/csv", accept="application/json")
    answer = {
        "status": job.training_job_status,
        "model": artifact,
        "endpoint": endpoint.endpoint_status,
        "answer": json.loads(said.body.read()),
    }
    endpoint.delete()
    endpoint.wait_for_delete()
    Path(sys.argv[2]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
