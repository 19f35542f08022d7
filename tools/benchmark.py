"""Time and memory of a training step; time of the maps of several classes, and of an evaluation; throughput of loading.

    python tools/benchmark.py data                 # images per second of one worker: published code, decoded, cached
    python tools/benchmark.py data --images-from DATA --size 320
    python tools/benchmark.py step                 # ResNet-50s, batch 8, 224 pixels, 2 threads; some minutes on a CPU
    python tools/benchmark.py step --device cuda --batch 64
    python tools/benchmark.py step --family bcos --size 64 --rounds 1 --no-memory
    python tools/benchmark.py lens --batch 1       # maps of 1, 2 and 4 competing classes of an image, from one forward pass
    python tools/benchmark.py evaluation --batch 16 --family xdnn bcos vanilla_frozen    # maps and scores over a forward pass

Variants are interleaved in one process, and the median of the rounds counts. Memory is the peak of one variant in a process
of its own, over the memory that the process held when the net was built. Loading is measured in one process with one
thread, on the JPEGs of each folder in DATA, or on generated ones where it does not exist; their files are in memory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import data, evaluation, lens, step  # beside this file

from guidance import cli


def main() -> None:
    parser = cli.build_parser(__doc__)
    parser.add_argument("what", choices=["step", "lens", "evaluation", "data"])
    parser.add_argument("--images-from", type=Path, metavar="DATA", help="data: folder of folders of JPEGs")
    parser.add_argument("--images", type=int, default=150, help="data: images of each folder")
    parser.add_argument("--family", choices=step.FAMILIES, nargs="+", default=list(step.FAMILIES))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--no-time", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # memory of one variant, printed alone
    args = parser.parse_args()
    if args.what == "data":
        data.benchmark_data(args.images_from, size=args.size, images=args.images, rounds=args.rounds)
    elif args.what == "lens":
        lens.benchmark_lens(args)
    elif args.what == "evaluation":
        evaluation.benchmark_evaluation(args)
    else:
        step.benchmark_step(args)


if __name__ == "__main__":
    main()
