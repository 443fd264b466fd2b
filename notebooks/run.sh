#!/usr/bin/env bash
# run.sh - executes the notebooks in place, so that the committed outputs are what the code gives.
#
#     notebooks/run.sh [NOTEBOOK...]
#
# Needs a built library (make) and what harness/tools/setup.sh installs for the tests (make test makes
# the environment). BUILD=dir, as for make.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build}
python=$build/venv/bin/python
if [ ! -x "$python" ] || [ ! -e "$build/lib/libmla.so" ]; then
	echo "run.sh: $python or $build/lib/libmla.so is missing: run make and make test first" >&2
	exit 1
fi
MLA_LIBRARY=$(realpath "$build/lib/libmla.so") exec "$python" -B notebooks/run.py "$@"
