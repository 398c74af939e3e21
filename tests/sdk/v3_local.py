# pyright: basic, reportMissingImports=false
"""A user's script for local mode of the SageMaker Python SDK v3, which runs in that SDK's environment.

``python v3_local.py SPEC ANSWER``: a JSON file says what to do, another what came of it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData
from sagemaker.train.model_trainer import Mode


def main() -> None:
    """Train as the spec says."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    trainer = ModelTrainer(
        training_image=spec["image"],
        training_mode=Mode.LOCAL_CONTAINER,
        role="arn:aws:iam::111111111111:role/dummy",
        compute=Compute(instance_type="local_cpu", instance_count=spec["instances"]),
        hyperparameters=spec["hyperparameters"],
        local_container_root=spec["container_root"],
        base_job_name="clary",
    )
    channels = [
        InputData(channel_name=name, data_source=channel["path"], content_type=channel["content_type"])
        for name, channel in spec["channels"].items()
    ]
    answer = {}
    try:
        trainer.train(input_data_config=channels, wait=True, logs=False)
    except RuntimeError as error:
        answer["error"] = str(error)
    Path(sys.argv[2]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
