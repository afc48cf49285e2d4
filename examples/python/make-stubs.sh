#!/bin/sh
# Makes Python stubs of the contract in proto/ with protoc and gRPC's plug-in for Python.
#
# usage: examples/python/make-stubs.sh [FOLDER]      (default: examples/python/stubs)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
proto=$here/../../proto
stubs=${1:-$here/stubs}

plugin=$(command -v grpc_python_plugin) || {
  echo "grpc_python_plugin is missing; on Debian it is in the package protobuf-compiler-grpc" >&2
  exit 1
}

mkdir -p "$stubs"
# The official google/rpc and buf/validate may be used instead of those in proto/, never both.
(cd "$proto" && find holdfast buf google -name '*.proto' -exec \
  protoc -I . --python_out="$stubs" --grpc_python_out="$stubs" --plugin=protoc-gen-grpc_python="$plugin" {} +)
echo "stubs are in $stubs"
