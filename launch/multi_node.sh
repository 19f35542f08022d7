#!/usr/bin/env bash
# One run on several machines, without a scheduler: start this on each of them, with the same arguments.
#   MAIN=host0 NODES=2 NODE=0 bash launch/multi_node.sh --config configs/voc_bcos_energy.yaml --output runs/voc   # on host0
#   MAIN=host0 NODES=2 NODE=1 bash launch/multi_node.sh --config configs/voc_bcos_energy.yaml --output runs/voc   # on the other
# --output must be on a file system that all machines share; the first one writes. The global batch (trainer.batch_size) is
# shared by all processes, so their number changes no result. All machines end together: if one is lost, the others say so after
# a while. Start all of them again with the same command, and --resume goes on from the last checkpoint.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

MAIN=${MAIN:?the name or address of the machine that has NODE=0}
NODES=${NODES:?how many machines}
NODE=${NODE:?which of them this is, from 0}
PORT=${PORT:-29500} # free on MAIN, and reachable from the others
# One process for each GPU; on machines without, set PROCESSES.
PROCESSES=${PROCESSES:-$(python -c 'import torch; print(torch.cuda.device_count() or 1)')}
# Where the machines have several networks: the one that joins them, such as eth0 or ib0.
if [ -n "${INTERFACE:-}" ]; then
    export NCCL_SOCKET_IFNAME=$INTERFACE GLOO_SOCKET_IFNAME=$INTERFACE
fi
# One thread each, unless said otherwise: the loader's workers are processes of their own.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# To stop it: SIGUSR1 to one of the training processes (not to torchrun), such as the one on MAIN whose number is in .lock of the
# run folder. All of them write the checkpoint and end with exit code 0.
exec torchrun --nnodes="$NODES" --node_rank="$NODE" --nproc_per_node="$PROCESSES" \
    --master_addr="$MAIN" --master_port="$PORT" \
    launch/train.py --resume "$@"
