#!/usr/bin/env bash
# run.sh - executes the notebooks in place, so that the committed outputs are what the code gives.
#
#     notebooks/run.sh [NOTEBOOK...]
#
# Needs a built library (make), and installs what else it needs. BUILD=dir, as for make.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build}
if [ ! -e "$build/lib/libmla.so" ]; then
	echo "run.sh: $build/lib/libmla.so is missing: run make first" >&2
	exit 1
fi
BUILD=$build harness/tools/setup.sh python notebooks
MLA_LIBRARY=$(realpath "$build/lib/libmla.so") exec "$build/venv/bin/python" -B notebooks/run.py "$@"
