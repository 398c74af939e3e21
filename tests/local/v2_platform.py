# pyright: basic, reportMissingImports=false
"""A user's script for the SageMaker Python SDK v2, which runs in that SDK's environment; it is the same on AWS.

``python v2_platform.py DATA ANSWERS``: rows of three columns lie below a prefix in S3; what came of each part goes to
a JSON file.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

from sagemaker import Model, PipelineModel, Predictor, Session, image_uris
from sagemaker.async_inference import AsyncInferenceConfig, WaiterConfig
from sagemaker.deserializers import JSONDeserializer
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.multidatamodel import MultiDataModel
from sagemaker.s3 import S3Downloader, S3Uploader
from sagemaker.serializers import CSVSerializer
from sagemaker.tuner import CategoricalParameter, HyperparameterTuner, InstanceConfig, IntegerParameter

ROLE = "arn:aws:iam::123456789012:role/SageMaker"
CSV = "text/csv;label_size=0"
MACHINE = "ml.m5.large"
ROWS = [[0.3, 0.2, 1], [10.3, 0.2, 1]]


class User:
    """Somebody with rows in S3."""

    def __init__(self, data: str) -> None:
        self.data = data
        self.home = data.removesuffix("in/")
        self.session = Session()
        self.image = image_uris.retrieve("kmeans", "us-east-1")
        self.estimator = self.new_estimator(columns=3, hosts=2)
        channel = TrainingInput(data, content_type=CSV, input_mode="Pipe", distribution="ShardedByS3Key")
        self.estimator.fit({"train": channel})

    def new_estimator(self, columns: int, hosts: int = 1) -> Estimator:
        """Something that trains k-means."""
        return Estimator(
            self.image,
            ROLE,
            hosts,
            MACHINE,
            output_path=f"{self.home}models",
            hyperparameters={"k": 2, "feature_dim": columns},
            sagemaker_session=self.session,
        )

    def predicted(self, predictor: Any, **more: Any) -> Any:
        """The answer to two rows."""
        client = self.session.sagemaker_client
        # deploy() itself could wait, but sleeps for half a minute before it first looks.
        client.get_waiter("endpoint_in_service").wait(EndpointName=predictor.endpoint_name)
        predictor.serializer, predictor.deserializer = CSVSerializer(), JSONDeserializer()
        return predictor.predict(ROWS, **more)

    def train(self) -> Any:
        """The job."""
        job = self.session.describe_training_job(self.estimator.latest_training_job.name)
        return {"status": job["TrainingJobStatus"], "model": self.estimator.model_data}

    def transform(self) -> Any:
        """A batch transform."""
        transformer = self.estimator.transformer(
            1, MACHINE, output_path=f"{self.home}clusters", accept="text/csv", assemble_with="Line"
        )
        transformer.transform(self.data, content_type="text/csv", split_type="Line", wait=True)
        outputs = S3Downloader.list(transformer.output_path, sagemaker_session=self.session)
        texts = [S3Downloader.read_file(uri, sagemaker_session=self.session) for uri in outputs]
        return {uri.rpartition("/")[2]: len(text.splitlines()) for uri, text in zip(outputs, texts, strict=True)}

    def tune(self) -> Any:
        """A search for hyperparameters."""
        tuner = HyperparameterTuner(
            self.new_estimator(columns=3),
            "train:msd",
            {"epochs": IntegerParameter(1, 4), "init_method": CategoricalParameter(["random", "kmeans++"])},
            objective_type="Minimize",
            strategy="Random",
            max_jobs=2,
            max_parallel_jobs=2,
        )
        tuner.override_resource_config([InstanceConfig(1, MACHINE, 5)])
        tuner.fit({"train": TrainingInput(self.data, content_type=CSV)}, wait=True)
        name = tuner.latest_tuning_job.name
        attached = HyperparameterTuner.attach(name, sagemaker_session=self.session)
        return {
            "name": name,
            "best": tuner.best_training_job(),
            "model": tuner.best_estimator().model_data,
            "attached": [attached.best_training_job(), attached.estimator.instance_type],
        }

    def pipeline(self) -> Any:
        """An endpoint of two models: the answer of the first, cluster and distance, is what the second is asked."""
        answers = "\n".join(f"{i % 2},{0.5 + i % 3 / 10}" for i in range(60))
        second = self.new_estimator(columns=2)
        uri = S3Uploader.upload_string_as_file_body(answers, f"{self.home}pairs/rows.csv", None, self.session)
        second.fit({"train": TrainingInput(uri, content_type=CSV)})
        models = [
            self.estimator.create_model(env={"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"}),
            second.create_model(),
        ]
        pipeline = PipelineModel(models, ROLE, Predictor, sagemaker_session=self.session)
        return self.predicted(pipeline.deploy(1, MACHINE, wait=False))

    def many(self) -> Any:
        """An endpoint of a folder of models."""
        one = Model(self.image, role=ROLE, predictor_cls=Predictor, sagemaker_session=self.session)
        models = MultiDataModel("many", f"{self.home}many/", model=one, sagemaker_session=self.session)
        for name in ("a.tar.gz", "b.tar.gz"):
            models.add_model(self.estimator.model_data, name)
        predictor = models.deploy(1, MACHINE, wait=False)
        return {
            "models": [*models.list_models()],
            "answer": self.predicted(predictor, target_model="b.tar.gz"),
        }

    def later(self) -> Any:
        """An asynchronous endpoint."""
        config = AsyncInferenceConfig(output_path=f"{self.home}later", failure_path=f"{self.home}failed")
        predictor = self.estimator.deploy(1, MACHINE, async_inference_config=config, wait=False)
        # the SDK waits for the object of a failure too, to the limit, even when the answer is there
        return self.predicted(predictor, waiter_config=WaiterConfig(max_attempts=15, delay=1))


def main() -> None:
    """Do everything; what fails is an answer too."""
    answers: dict[str, Any] = {}
    user = User(sys.argv[1])
    for part in (user.train, user.transform, user.tune, user.pipeline, user.many, user.later):
        try:
            answers[part.__name__] = part()
        except Exception:  # noqa: BLE001  # the test of that part shows it
            answers[part.__name__] = traceback.format_exc()
    Path(sys.argv[2]).write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
