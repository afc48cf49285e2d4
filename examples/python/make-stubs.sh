#!/bin/sh
# Makes Python stubs of the contract in proto/, with protoc and gRPC's plug-in for Python. With the grpcio-tools of $PYTHON
# instead when PYTHON is set, and with those of python3 when there is no plug-in.
#
# usage: [PYTHON=python3] examples/python/make-stubs.sh [FOLDER]      (default: examples/python/stubs)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
proto=$here/../../proto
stubs=${1:-$here/stubs}
python=${PYTHON:-python3}

if [ -z "${PYTHON:-}" ] && plugin=$(command -v grpc_python_plugin); then
  set -- protoc --plugin=protoc-gen-grpc_python="$plugin"
elif "$python" -c 'import grpc_tools.protoc' 2>/dev/null; then
  set -- "$python" -m grpc_tools.protoc
else
  echo "neither grpc_python_plugin (on Debian in protobuf-compiler-grpc) nor grpcio-tools in $python" >&2
  exit 1
fi

mkdir -p "$stubs"
stubs=$(cd "$stubs" && pwd)
# The official google/rpc and buf/validate may be used instead of those in proto/, never both.
(cd "$proto" && find holdfast buf google -name '*.proto' -exec \
  "$@" -I . --python_out="$stubs" --grpc_python_out="$stubs" {} +)
echo "stubs are in $stubs"
