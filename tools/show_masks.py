"""Draw which cells of each stage a net with masks (AIM) used for some images, and what is left when they are merged.

    python tools/show_masks.py --checkpoint runs/demo_aim --images bird.jpg lake.png --output masks.png --gradcam

A run folder stands for its last checkpoint. --gradcam adds the GradCAM map of the predicted class, or of --target.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from guidance import cli

if not cli.asks_for_help():
    import torch
    from torch import Tensor

    from guidance.assembly.sets import encoding
    from guidance.attribution import Request, explain, one_hot
    from guidance.data import to_display
    from guidance.inference import Run, load_run
    from guidance.maps import merged_mask
    from guidance.pictures.layout import write_png
    from guidance.pictures.masks import mask_panel
    from guidance.runs.logs import Image
    from guidance.types import lookup

BATCH = 16  # images at a time


def draw(run: Run, paths: Sequence[Path], *, gradcam: bool = False, target: str | None = None) -> Image:
    """A row for each image file, with the predicted class below it.

    `gradcam`: also the GradCAM map at the last depth, of class `target` or, without one, of the predicted class.
    Raises ValueError for a net without masks, an unknown class and an image that cannot be read.
    """
    classes = {name: i for i, name in enumerate(run.classes)}
    chosen = None if target is None else lookup(classes, target, "class")
    images = torch.cat([run.read(path) for path in paths])
    parts = [_explain(run, images[i : i + BATCH], chosen, gradcam) for i in range(0, len(images), BATCH)]
    masks = {stage: torch.cat([part.masks[stage] for part in parts]) for stage in parts[0].masks}
    if not masks:
        raise ValueError(
            f"the net of this checkpoint ({run.config.model.name}) has no masks; only nets that were trained with "
            "objective.mode: aim have them"
        )
    names = [run.classes[k] for part in parts for k in part.predicted.tolist()]
    return mask_panel(
        to_display(images.cpu(), encoding(run.config)),
        masks,
        merged_mask(masks),
        names=[f"{path.stem}: {name}" for path, name in zip(paths, names, strict=True)],
        attributions={"GradCAM": torch.cat([part.maps for part in parts])} if gradcam else None,
        captions={"GradCAM": names if target is None else [target] * len(paths)} if gradcam else None,
    )


class Explained(NamedTuple):
    """Of some images, on the host."""

    masks: dict[str, Tensor]  # stage -> [B, 1, h, w]
    maps: Tensor  # [B, h, w]; empty where they were not asked for
    predicted: Tensor  # [B] long


def _explain(run: Run, images: Tensor, chosen: int | None, gradcam: bool) -> Explained:
    with torch.no_grad():
        out = run.model(images)
    predicted, maps = out.logits.argmax(1), images.new_zeros(0)
    if gradcam:
        target = predicted if chosen is None else torch.full_like(predicted, chosen)
        rows, seed = torch.arange(len(images), device=images.device), one_hot(target, len(run.classes))
        maps = explain(run.model, images, Request("gradcam", run.model.depths[-1], rows, seed, rounds=1)).maps
    masks = {stage: mask.cpu() for stage, mask in out.masks.items()}
    return Explained(masks, maps.cpu(), predicted.cpu())


def show(args: argparse.Namespace) -> None:
    """Do what the command does."""
    if args.target is not None and not args.gradcam:
        raise ValueError("--target names the class of the GradCAM maps; ask for them with --gradcam")
    run = load_run(args.checkpoint, device=cli.available_device())
    write_png(args.output, draw(run, args.images, gradcam=args.gradcam, target=args.target))
    print(f"written to {args.output}")


def main(argv: list[str] | None = None) -> int:
    parser = cli.build_parser(__doc__)
    cli.add_imports(parser)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a checkpoint, or a run folder")
    parser.add_argument("--images", type=Path, nargs="+", action="extend", required=True, help="image files")
    parser.add_argument("--output", type=Path, default=Path("masks.png"), help="picture to write")
    parser.add_argument("--gradcam", action="store_true", help="also draw GradCAM maps")
    parser.add_argument("--target", metavar="CLASS", help="class of the GradCAM maps (default: the predicted one)")
    args = parser.parse_args(argv)
    return cli.run(lambda: show(args))


if __name__ == "__main__":
    sys.exit(main())
