#!/usr/bin/env bash
# Lint, types and tests, in an environment of its own. Arguments go to pytest, such as `-m long` or `-k losses`.
set -euo pipefail
EXTRAS=dev
source "$(dirname "$0")/../launch/setup.sh"

ruff check .
ruff format --check .
# Python keeps what it has compiled: the tests start many processes, each of which would compile the project again.
unset PYTHONDONTWRITEBYTECODE
# Types are checked beside the tests, and told of after them.
types=$(mktemp)
mypy >"$types" 2>&1 &
checker=$!
trap 'kill $checker 2>/dev/null || true; rm -f "$types"' EXIT
# One thread each: the tests start processes of their own, and tiny nets gain nothing from more.
export OMP_NUM_THREADS=1
# A file of tests stays in one process, because later ones may use what earlier ones made. The files come in the order of
# tests/conftest.py, the longest first; by itself xdist puts those with few tests last, however long these take.
if [ "$#" -eq 0 ]; then
    set -- -m "not long" -n "$(python -c 'import os; print(min(4, os.cpu_count() or 1))')" --dist loadfile --no-loadscope-reorder
fi
failed=0
python -m pytest "$@" || failed=$?
wait $checker || failed=$?
cat "$types"
exit $failed
