#!/usr/bin/env bash
# Two classifiers on generated signs whose background predicts the class in training and not at test: one trained without
# guidance, one with the Energy loss. Sets up its own environment. Two to four minutes on two cores.
#   bash launch/demo.sh [a.b=value ...]      changes config values of both runs; RUNS=folder puts the results elsewhere
set -euo pipefail
source "$(dirname "$0")/setup.sh"
runs=${RUNS:-runs}
# Small layers: more threads than one only wait for each other. Instead the two runs share the cores.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

train=(python launch/train.py --config configs/demo.yaml --resume)
log=$runs/demo_unguided.log
mkdir -p "$runs"
"${train[@]}" --output "$runs/demo_unguided" --set objective.localization.weight=0.0 "$@" >"$log" 2>&1 &
unguided=$!
trap 'kill $unguided 2>/dev/null || true' EXIT
echo "The unguided net trains beside the guided one: $log"
"${train[@]}" --output "$runs/demo_guided" --set objective.localization.weight=5.0 "$@"
wait $unguided || { cat "$log" >&2; exit 1; }
trap - EXIT
python tools/select_pareto.py "$runs/demo_unguided" "$runs/demo_guided" --output "$runs/demo"
python tools/report.py "$runs/demo_unguided" "$runs/demo_guided" --split test --output "$runs/demo"
echo "Watch the maps change over the epochs: tensorboard --logdir $runs"
