"""Time and memory of a step; of maps, of an evaluation and of a run; throughput of loading; errors of precisions.

    python tools/benchmark.py data                 # images per second of one worker: published code, decoded, cached
    python tools/benchmark.py data --images-from DATA --size 320
    python tools/benchmark.py step                 # ResNet-50s, batch 8, 224 pixels, 2 threads; some minutes on a CPU
    python tools/benchmark.py step --device cuda --batch 64
    python tools/benchmark.py step --family bcos --size 64 --rounds 1 --no-memory
    python tools/benchmark.py ddp --family bcos    # two processes against one, and a calculated table for 8 and 64 GPUs
    python tools/benchmark.py lens --batch 1       # maps of 1, 2 and 4 competing classes of an image, from one forward pass
    python tools/benchmark.py step --compile       # and compiled, which takes some minutes more for each step
    python tools/benchmark.py profile --size 128   # operations by the share of time that they take
    python tools/benchmark.py table                # most of these, as one table: half an hour on a CPU
    python tools/benchmark.py precision            # errors of maps and gradients in fp32, bf16 and fp16 against float64
    python tools/benchmark.py loop                 # a small run: step, loading, evaluation, ... as shares of an epoch
    python tools/benchmark.py evaluation --family xdnn bcos vanilla_frozen    # maps and scores over a forward pass

Variants are interleaved in one process, and the median of the rounds counts. Memory is the peak of what torch holds in one step
over the built net and the state of its optimizer, of each variant in a process of its own. Loading is measured in one process
with one thread, on the JPEGs of each folder in DATA, or on generated ones where it does not exist; their files are in memory. A
run trains on the Waterbirds sample beside the project from a cache, or on generated shapes; its epochs and their steps alone,
from batches that are there already, take turns. Freed memory is kept, as in training (guidance/allocator.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import data, ddp, evaluation, lens, loop, operations, precision, step, table  # beside this file

from guidance import cli
from guidance.allocator import keep_freed_memory

WHAT: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "step": step.benchmark_step,
    "lens": lens.benchmark_lens,
    "evaluation": evaluation.benchmark_evaluation,
    "data": lambda args: data.benchmark_data(args.images_from, size=args.size, images=args.images, rounds=args.rounds),
    "loop": loop.benchmark_loop,
    "ddp": ddp.benchmark_ddp,
    "precision": precision.benchmark_precision,
    "profile": operations.benchmark_profile,
    "table": table.benchmark_table,
}
USUAL: Mapping[str, tuple[int | None, int | None]] = {  # images and pixels
    "loop": (48, 64), "evaluation": (16, 224), "table": (None, None),
}  # fmt: skip


def main() -> None:
    parser = cli.build_parser(__doc__)
    parser.add_argument("what", choices=list(WHAT))
    parser.add_argument("--images-from", type=Path, metavar="DATA", help="data: folder of folders of JPEGs")
    parser.add_argument("--images", type=int, default=150, help="data: images of each folder")
    parser.add_argument("--family", choices=step.FAMILIES, nargs="+", default=list(step.FAMILIES))
    parser.add_argument("--batch", type=int, help="images of a step; 8, of an evaluation 16, of loop 48")
    parser.add_argument("--size", type=int, help="pixels; 224, of loop 64")
    parser.add_argument("--workers", type=int, default=1, help="loop: processes that load")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="step, evaluation, table, profile: also compiled, which takes minutes for each step",
    )
    parser.add_argument(
        "--step-seconds", type=float, default=0.2, help="ddp: of an unguided step on the GPUs to calculate for"
    )
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--no-time", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # memory of one variant, printed alone
    args = parser.parse_args()
    batch, size = USUAL.get(args.what, (8, 224))
    args.batch, args.size = args.batch or batch, args.size or size
    if args.device == "cpu":
        keep_freed_memory()  # as in training
    WHAT[args.what](args)


if __name__ == "__main__":
    main()
