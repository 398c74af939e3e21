"""A local endpoint for SageMaker and the services it needs: what the SDKs ask for really happens."""
