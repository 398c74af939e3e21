#!/bin/sh
# Makes record_pb2.py and record_pb2.pyi anew from record.proto.
#
# The compiler is that of protobuf 4.25: its output runs under every later runtime. The messages go into a pool of
# their own instead of the process-wide one, where the SageMaker SDK registers the same names.
set -eu
cd "$(dirname "$0")"
python3 -m grpc_tools.protoc -I. --python_out=. --pyi_out=. record.proto # pip install grpcio-tools==1.62.3
sed -i 's/_descriptor_pool\.Default()/_descriptor_pool.DescriptorPool()/' record_pb2.py
sed -i 's/_Mapping\]/_Mapping[str, object]]/g' record_pb2.pyi
