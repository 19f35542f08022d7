#!/usr/bin/env bash
# The comparison of losses in the guidance paper (its Fig. 5 and 6) at a small scale, on real images: four losses with three
# weights each beside a baseline, three seeds (configs/experiments/waterbirds_losses.yaml). Then the fronts of each loss, and which
# of the paper's claims held. Sets up its own environment. About half an hour on two cores.
#   bash launch/experiment_demo.sh WATERBIRDS [options of launch/sweep.py, such as --seeds 0 or --slots 8]
# WATERBIRDS, which may be a variable instead: the folder of Waterbirds-100 (or -95). RUNS=folder puts the results elsewhere.
# Interrupted or killed, the same command goes on.
set -euo pipefail
case "${1:-}" in "" | -*) ;; *) WATERBIRDS=$1 && shift ;; esac
fail() {
    echo "error: $1: give the folder of Waterbirds, with waterbird_1.0_forest2water2/metadata.csv and" \
        "CUB_200_2011/bounding_boxes.txt, as the first argument or as WATERBIRDS" >&2
    exit 2
}
[ -n "${WATERBIRDS:-}" ] || fail "no data are named"
data=$(cd "$WATERBIRDS" 2>/dev/null && pwd -P) || fail "there is no folder $WATERBIRDS"
version=100
[ -f "$data/waterbird_complete95_forest2water2/metadata.csv" ] && [ ! -d "$data/waterbird_1.0_forest2water2" ] && version=95
[ "$(basename "$data")" = waterbird_complete95_forest2water2 ] && version=95
[ -f "$data/metadata.csv" ] || [ -n "$(ls "$data"/waterbird_*/metadata.csv 2>/dev/null)" ] || fail "$data holds no Waterbirds"

source "$(dirname "$0")/setup.sh"
python -c "import submitit" 2>/dev/null || EXTRAS=sweeps source launch/setup.sh
out=${RUNS:-runs}/experiment_demo
set_data=(data.root="$data" data.version="$version" data.cache="$out/images")
# Small layers: more threads than one only wait for each other. Instead as many runs as cores go at a time.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
slots=$(python -c "import os; print(min(8, os.cpu_count() or 1))")

# All images are decoded once, at the size of the experiment. This says, too, where the data are not as they should be.
python tools/prepare_data.py cache --config configs/waterbirds100_resnet18_energy.yaml --set "${set_data[@]}" data.image_size=32
failed=0
python launch/sweep.py configs/experiments/waterbirds_losses.yaml --output "$out" --gpus 0 --slots "$slots" --set "${set_data[@]}" \
    "$@" || failed=$?
[ "$failed" -le 1 ] || exit "$failed" # 1: some runs failed; the others are shown
python tools/fronts.py "$out" --split val test | tail -n 1 # the report has the tables
python tools/report.py "$out"
exit "$failed"
