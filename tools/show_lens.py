"""Draw the maps of several classes of an image, with and without Attribution Lens, by several methods.

    python tools/show_lens.py --checkpoint runs/demo --image sign.png --output lens.png
    python tools/show_lens.py --checkpoint RUN --image dog.jpg --classes dog cat --methods ixg gradcam guided_backprop
    python tools/show_lens.py --checkpoint RUN --image dog.jpg --classes dog cat --methods ixg --concepts concepts.png

One row for each method without and with the lens, on one colour scale; a column for each class (default: the three most
probable ones). --concepts also masks what the lens of the first method shows of each class, and draws what that does to the
probabilities. A run folder stands for its last checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from guidance import cli

if not cli.asks_for_help():
    import torch
    from torch import Tensor

    from guidance.assembly.judging import judged_methods
    from guidance.assembly.sets import encoding
    from guidance.benchmarks.class_maps import BASE, LENS, VARIANTS, class_maps, refine
    from guidance.benchmarks.concepts import concept_mask, without
    from guidance.data import to_display
    from guidance.data.transforms.encodings import mean_pixel
    from guidance.inference import Run, load_run
    from guidance.pictures.layout import write_png
    from guidance.pictures.lens import MapRow, class_panel, concept_panel
    from guidance.types import lookup


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.build_parser(__doc__, abbreviations=False)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a checkpoint, or a run folder")
    parser.add_argument("--image", type=Path, required=True, help="image file")
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="two or more (default: the three most probable)")
    parser.add_argument("--methods", nargs="+", default=["ixg", "gradcam"], metavar="METHOD[@DEPTH]", help="or all")
    parser.add_argument("--output", type=Path, default=Path("lens.png"), metavar="PNG", help="default: lens.png")
    parser.add_argument("--concepts", type=Path, metavar="PNG", help="also mask what the lens shows of each class")
    parser.add_argument(
        "--share", type=float, default=0.3, help="of its largest value, above which evidence is masked (0.3)"
    )
    cli.add_overrides(parser)
    return parser.parse_args(argv)


def chosen_classes(run: Run, images: Tensor, names: list[str] | None) -> list[int]:
    """Positions of the classes. Raises ValueError for an unknown one, one that comes twice, and fewer than two."""
    if names is None:
        with torch.no_grad():
            return run.model(images).logits[0].topk(min(3, len(run.classes))).indices.tolist()
    places = {name: i for i, name in enumerate(run.classes)}
    found = [lookup(places, name, "class") for name in names]
    if len(set(found)) < 2 or len(set(found)) < len(found):
        raise ValueError(f"the lens compares two different classes or more, not {', '.join(names)}")
    return found


def probabilities(run: Run, images: Tensor, classes: list[int]) -> list[dict[str, float]]:
    """Of each image [B, C, H, W], the probability of each class."""
    with torch.no_grad():
        logits = run.model(images).logits.double()
    rows = logits.softmax(1) if run.config.objective.exclusive else logits.sigmoid()
    return [{run.classes[k]: float(row[k]) for k in classes} for row in rows]


def draw(args: argparse.Namespace) -> None:
    """Do what the command does."""
    run = load_run(args.checkpoint, overrides=args.set)
    images = run.read(args.image)
    classes = chosen_classes(run, images, args.classes)
    names = [run.classes[k] for k in classes]
    shown = to_display(images, encoding(run.config))[0]
    rows: list[MapRow] = []
    for method in judged_methods(run.config, args.methods):
        maps = refine(class_maps(run.model, images, torch.tensor([classes]), method), VARIANTS)
        title = method.method.title or method.name
        rows += [
            MapRow(method.name, title, maps[BASE][:, 0]), MapRow(method.name, f"{title} + lens", maps[LENS][:, 0]),
        ]  # fmt: skip
    write_png(args.output, class_panel(shown, names, rows))
    print(f"written to {args.output}")
    if args.concepts:
        show_concepts(run, images, classes, rows[1].maps, args)


def show_concepts(run: Run, images: Tensor, classes: list[int], refined: Tensor, args: argparse.Namespace) -> None:
    """Mask the evidence for each class in turn, print and draw what becomes of the probabilities."""
    names = [run.classes[k] for k in classes]
    removed = mean_pixel(encoding(run.config))
    masks = {
        name: concept_mask(attribution, share=args.share) for name, attribution in zip(names, refined, strict=True)
    }
    changed = torch.stack([without(images[0], mask, removed) for mask in masks.values()])
    found = dict(zip(["", *names], probabilities(run, torch.cat([images, changed]), classes), strict=True))
    for name, values in found.items():
        listed = ", ".join(f"{c} {p:.3f}" for c, p in values.items())
        print(f"{f'without what speaks for {name}' if name else 'the whole image'}: {listed}")
    displayed = dict(zip(names, to_display(changed, encoding(run.config)), strict=True))
    write_png(args.concepts, concept_panel(to_display(images, encoding(run.config))[0], masks, displayed, found))
    print(f"written to {args.concepts}")


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    cli.set_up_logging()
    return cli.run(lambda: draw(args))


if __name__ == "__main__":
    sys.exit(main())
