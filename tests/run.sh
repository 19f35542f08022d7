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
# A file of tests stays in one process, because later ones may use what earlier ones made. The files come in the order of
# tests/conftest.py, the longest first; by itself xdist puts those with few tests last, however long these take.
if [ "$#" -eq 0 ]; then
    set -- -m "not long" -n "$(python -c 'import os; print(min(4, os.cpu_count() or 1))')" --dist loadfile --no-loadscope-reorder
fi
python -m pytest "$@"
