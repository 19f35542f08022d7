"""Write a trained net as one file for others to use: plain weights, torch.export, or ONNX.

    python tools/export.py runs/demo --to torchvision              # weights for torchvision's net of that name; --to timm
    python tools/export.py runs/demo --to torch.export --maps      # images in [0, 1] -> logits, and maps of the predicted class
    python tools/export.py runs/demo --to onnx --output bird.onnx  # needs pip install -e '.[onnx]'
    python tools/export.py --model resnet50 --weights imagenet --to onnx

RUN is a checkpoint, or a run folder, which stands for its last one. The file is read back and run beside the net, on images of
the validation split where it is at hand; what differs by more than 1e-5 is an error, and nothing is left. Classes, image size
and pre-processing stand in the file (not in plain weights) and in FILE.json; FILE.md is a model card.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from guidance import cli

if not cli.asks_for_help():
    from guidance.export import FORMATS, export
    from guidance.inference import Run, load_model, load_run

KINDS = ("torchvision", "timm", "torch.export", "onnx")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.build_parser(__doc__)
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN", help="a checkpoint, or a run folder")
    parser.add_argument("--model", help="instead of RUN: a backbone whose weights were trained elsewhere")
    parser.add_argument("--weights", default="imagenet", help="of --model: a name in its row, or a file")
    parser.add_argument("--data", type=Path, help="of --model: a labelled folder, or a config; its classes and images")
    parser.add_argument("--to", choices=KINDS, required=True, help="format")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: beside the checkpoint, named after it")
    parser.add_argument("--maps", action="store_true", help="the map of the predicted class as a second output")
    parser.add_argument(
        "--evaluate", metavar="SPLIT", help="evaluate this split for the card: intervals, typical and worst images"
    )
    cli.add_overrides(parser, purpose=", such as evaluation.attribution.method=bcos")
    args = parser.parse_args(argv)
    if (args.run is None) == (args.model is None):
        parser.error("give either RUN or --model")
    return args


def load(args: argparse.Namespace) -> Run:
    """The net that the arguments name, on the CPU."""
    if args.model is None:
        return load_run(args.run, overrides=args.set)
    return load_model(args.model, weights=args.weights, data=args.data, overrides=args.set)


def write(args: argparse.Namespace) -> None:
    """Do what the command does."""
    if args.output is not None:
        output = args.output
    elif args.model is not None:
        output = Path(args.model.replace("/", "_").replace(":", "_") + FORMATS[args.to].suffix)
    else:
        output = (
            args.run / f"export{FORMATS[args.to].suffix}"
            if args.run.is_dir()
            else args.run.with_suffix(FORMATS[args.to].suffix)
        )
    done = export(load(args), args.to, output, maps=args.maps, split=args.evaluate)
    print(f"written: {done.file}, {done.metadata}, {done.card}")
    if done.differences is None:
        print("not checked: onnxruntime is not installed (pip install -e '.[onnx]')", file=sys.stderr)
        return
    found = ", ".join(f"{name} {value:.1e}" for name, value in done.differences.items())
    print(f"read back and run on {done.images}; largest difference over the largest value: {found}")


def main(argv: list[str] | None = None) -> int:
    cli.set_up_logging()
    args = parse(argv)
    return cli.run(lambda: write(args))


if __name__ == "__main__":
    sys.exit(main())
