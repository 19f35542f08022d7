#!/usr/bin/env bash
# Lint, types and tests, in an environment of its own. Arguments go to pytest, such as `-m long` or `-k losses`.
set -euo pipefail
EXTRAS=dev
source "$(dirname "$0")/../launch/setup.sh"

ruff check .
ruff format --check .
mypy
# One thread each: the tests start processes of their own, and tiny nets gain nothing from more.
export OMP_NUM_THREADS=1
if [ "$#" -eq 0 ]; then set -- -m "not long"; fi
python -m pytest "$@"
