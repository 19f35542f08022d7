#!/usr/bin/env bash
# Two classifiers on generated shapes whose background predicts the class in training and not at test: one trained without
# guidance, one with the Energy loss. Sets up its own environment. About ten minutes on two cores.
#   bash launch/demo.sh [a.b=value ...]      changes config values of both runs; RUNS=folder puts the results elsewhere
set -euo pipefail
source "$(dirname "$0")/setup.sh"
runs=${RUNS:-runs}
# Small layers: on few cores, more threads only wait for each other and for the loader. More processes do not.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
processes=$(python -c "import os, torch; print(min(2, torch.cuda.device_count() or os.cpu_count()))")

for name in unguided guided; do
    weight=$([ $name = guided ] && echo 2.0 || echo 0.0)
    torchrun --standalone --nproc_per_node="$processes" launch/train.py --config configs/demo.yaml --resume \
        --output "$runs/demo_$name" --set objective.localization.weight=$weight "$@"
done
python tools/select_pareto.py "$runs/demo_unguided" "$runs/demo_guided" --output "$runs/demo"
python tools/report.py "$runs/demo_unguided" "$runs/demo_guided" --split test --output "$runs/demo"
echo "Watch the maps change over the epochs: tensorboard --logdir $runs"
