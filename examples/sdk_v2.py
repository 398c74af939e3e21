# pyright: basic, reportMissingImports=false
"""Code for Amazon SageMaker as users have it, by the SageMaker Python SDK v2; nothing in it is made for clary.

Run it against AWS, or on this machine::

    clary up &
    eval "$(clary env)"
    python examples/sdk_v2.py
"""

import numpy as np
import sagemaker

ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"

rng = np.random.default_rng(0)
centres = np.array([[0, 0, 0], [5, 5, 0], [0, 5, 5]])
labels = rng.integers(0, 3, 900)
rows = (centres[labels] + rng.normal(size=(900, 3))).astype("float32")

kmeans = sagemaker.KMeans(role=ROLE, instance_count=1, instance_type="ml.m5.large", k=3)
kmeans.fit(kmeans.record_set(rows))
clusters = kmeans.deploy(initial_instance_count=1, instance_type="ml.m5.large")
for record in clusters.predict(centres.astype("float32")):
    closest = record.label["closest_cluster"].float32_tensor.values[0]
    distance = record.label["distance_to_cluster"].float32_tensor.values[0]
    print(f"cluster {closest:.0f} at {distance:.3f}")
clusters.delete_model()
clusters.delete_endpoint()

linear = sagemaker.LinearLearner(
    role=ROLE, instance_count=1, instance_type="ml.m5.large", predictor_type="binary_classifier", epochs=10
)
is_first = (labels == 0).astype("float32")
train, test = (
    linear.record_set(rows[:700], is_first[:700]),
    linear.record_set(rows[700:], is_first[700:], channel="test"),
)
linear.fit([train, test])
classifier = linear.deploy(initial_instance_count=1, instance_type="ml.m5.large")
answers = classifier.predict(rows[700:])
predicted = np.array([record.label["predicted_label"].float32_tensor.values[0] for record in answers])
print(f"accuracy {np.mean(predicted == is_first[700:]):.3f}")
classifier.delete_endpoint()
