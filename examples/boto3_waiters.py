"""Code for Amazon SageMaker as users have it, by boto3 and its waiters; nothing in it is made for clary.

Run it against AWS, or on this machine::

    clary up &
    eval "$(clary env)"
    python examples/boto3_waiters.py
"""

import boto3
from sklearn.datasets import load_digits

ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"
IMAGE = "382416733822.dkr.ecr.us-east-1.amazonaws.com/kmeans:1"

s3, sagemaker, runtime = boto3.client("s3"), boto3.client("sagemaker"), boto3.client("sagemaker-runtime")
rows = "\n".join(",".join(map(str, row)) for row in load_digits(return_X_y=True)[0])
s3.create_bucket(Bucket="my-bucket")
s3.put_object(Bucket="my-bucket", Key="digits/rows.csv", Body=rows)

data = {"S3DataType": "S3Prefix", "S3Uri": "s3://my-bucket/digits/", "S3DataDistributionType": "ShardedByS3Key"}
sagemaker.create_training_job(
    TrainingJobName="digits",
    AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "Pipe"},
    HyperParameters={"k": "10", "feature_dim": "64"},
    InputDataConfig=[
        {"ChannelName": "train", "ContentType": "text/csv;label_size=0", "DataSource": {"S3DataSource": data}}
    ],
    OutputDataConfig={"S3OutputPath": "s3://my-bucket/models/"},
    ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    RoleArn=ROLE,
    StoppingCondition={"MaxRuntimeInSeconds": 3600},
)
sagemaker.get_waiter("training_job_completed_or_stopped").wait(TrainingJobName="digits")
job = sagemaker.describe_training_job(TrainingJobName="digits")
print(job["TrainingJobStatus"], {metric["MetricName"]: metric["Value"] for metric in job["FinalMetricDataList"]})

model = {"Image": IMAGE, "ModelDataUrl": job["ModelArtifacts"]["S3ModelArtifacts"]}
sagemaker.create_model(ModelName="digits", PrimaryContainer=model, ExecutionRoleArn=ROLE)
variant = {"VariantName": "all", "ModelName": "digits", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
sagemaker.create_endpoint_config(EndpointConfigName="digits", ProductionVariants=[variant])
sagemaker.create_endpoint(EndpointName="digits", EndpointConfigName="digits")
sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="digits")
answer = runtime.invoke_endpoint(EndpointName="digits", ContentType="text/csv", Body=rows.partition("\n")[0])
print(answer["Body"].read().decode())

sagemaker.delete_endpoint(EndpointName="digits")
sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="digits")
print("done")
