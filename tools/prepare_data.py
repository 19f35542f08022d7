"""Check data sets, make them, and get them ready for training.

python tools/prepare_data.py verify --config configs/demo.yaml             # counts and mistakes; exit code 1 if any
python tools/prepare_data.py cache --config FILE --set data.cache=CACHE    # decode all splits ahead of time
python tools/prepare_data.py subset --config FILE --fractions 0.01 0.1     # which images guidance may use
python tools/prepare_data.py convert --from yolo SOURCE --images FOLDER --output DIR   # annotations of other tools
python tools/prepare_data.py synthesize waterbirds --cub CUB --backgrounds PLACES --output DIR --correlation 0.9
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from guidance import cli
from guidance.assembly import build_source
from guidance.assembly.caches import cache_split, with_cache
from guidance.assembly.sets import as_cached, choose_annotated
from guidance.config import Config, load_config, override_config
from guidance.data import Source
from guidance.data.formats import FORMATS
from guidance.data.formats.converting import check_converted, convert, differences
from guidance.data.making.synthesis import SETS, synthesize_traveling_birds, synthesize_waterbirds
from guidance.data.reading.split_checks import DOUBTS, MISTAKES, SplitCheck, check_split, compare_splits, table
from guidance.data.sets.waterbirds import VERSIONS
from guidance.data.source import NoSplitError
from guidance.data.transforms.crops import SQUARES

SHOWN = 20  # mistakes that are spelled out


def read_splits(
    config: Config, names: Sequence[str], read: Callable[[str], Source], broken: list[str]
) -> Iterator[Source]:
    """The splits named, or those of the config and "test", where the data set has one that is none of them.

    What is wrong with such a "test" as a whole goes into `broken`; another split that cannot be read is an error.
    """
    data = config.data
    own = names or [data.train_split, data.val_split]
    sources: list[Source] = []
    for split in dict.fromkeys([*own, *([] if names else ["test"])]):
        try:
            source = read(split)
        except ValueError as error:
            if split in own:
                raise
            if isinstance(error, NoSplitError):
                print(f"{split}: not there ({str(error).splitlines()[0]})", file=sys.stderr)
            else:
                broken.append(f"{split}: {error}")
            continue
        if split not in own and any(source.records == other.records for other in sources):
            continue  # another name of the same split
        sources.append(source)
        yield source


def read_leniently(config: Config, split: str) -> Source:
    """A split without its faulty records (see `Source.problems`)."""
    try:
        return build_source(override_config(config, ["data.on_error=skip"]), split)
    except ValueError:
        build_source(override_config(config, ["data.on_error=raise"]), split)  # says why, where no record is left
        raise


def verify(args: argparse.Namespace) -> int:
    config = load_config(args.config, args.set)
    checks: list[SplitCheck] = []
    broken: list[str] = []
    for source in read_splits(config, args.splits, partial(read_leniently, config), broken):
        print(f"checking {len(source.records)} images of {source.split}", file=sys.stderr)
        check = check_split(source, quick=args.quick, threads=args.threads)
        checks.append(check if args.quick else with_cache(config, check))
    checks = compare_splits(checks)
    print(f"{config.data.name} at {config.data.root}\n{table(checks)}\n")
    return report_mistakes(checks, broken)


def report_mistakes(checks: Sequence[SplitCheck], broken: Sequence[str]) -> int:
    """Print what is wrong with the images, and the splits that are `broken`; returns the exit code."""
    doubts = [f"{check.source.split}: {text}" for check in checks for text in check.doubts]
    if doubts:
        spell_out(doubts)
        print(f"{len(doubts)} doubts ({', '.join(DOUBTS)}): used as they are, but look at them\n")
    mistakes = len(broken) + sum(check.mistakes for check in checks)
    if not mistakes:
        print("nothing is wrong" + (" for sure" if doubts else ""))
        return 0
    spell_out([*broken, *(f"{check.source.split}: {text}" for check in checks for text in check.problems)])
    print(f"{mistakes} mistakes (splits that cannot be read, {', '.join(MISTAKES)}); the other rows need not be wrong")
    return 1


def spell_out(lines: Sequence[str]) -> None:
    """Print the first lines, and how many more there are."""
    print("\n".join(lines[:SHOWN]))
    if len(lines) > SHOWN:
        print(f"and {len(lines) - SHOWN} more")


def cache(args: argparse.Namespace) -> int:
    config = load_config(args.config, args.set)
    data = config.data
    if data.cache is None:
        raise ValueError("the config has no cache; add --set data.cache=FOLDER")
    broken: list[str] = []
    for source in read_splits(config, args.splits, partial(build_source, config), broken):
        cached, size = as_cached(config, source)
        if cached.crop not in SQUARES:
            print(f"{source.split}: no cache, because each evaluation draws its crops (evaluation.crop: {cached.crop})")
            continue
        for text in cache_split(config, cached, size, threads=args.threads):
            print(f"{source.split}: {text}")
    if broken:
        raise ValueError("\n".join(broken))
    return 0


def subset(args: argparse.Namespace) -> int:
    config = load_config(args.config, args.set)
    train = build_source(config, config.data.train_split)
    args.output.mkdir(parents=True, exist_ok=True)
    inner: set[int] = set()
    for fraction in sorted(set(args.fractions)):
        indices = choose_annotated(override_config(config, [f"data.annotated_fraction={fraction}"]), train)
        if not inner <= set(indices):
            raise ValueError(f"the subset of fraction {fraction} does not hold that of the smaller one")
        inner = set(indices)
        images = [os.path.relpath(train.records[i].path, config.data.root) for i in indices]
        content = {
            "annotated_fraction": fraction, "annotated_of": config.data.annotated_of, "indices": indices,
            "seed": config.seed, "split": train.split, "images": images,
        }  # fmt: skip
        path = args.output / f"annotated_{fraction:g}.json"
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(f"{path}: {len(indices)} of {len(train.records)} images")
    return 0


def convert_annotations(args: argparse.Namespace) -> int:
    found = convert(
        args.source, args.images, args.output, from_format=args.source_format, to_format=args.to, on_error=args.on_error
    )
    print("\n".join(found.describe()))
    if args.to != "coco":
        wrong = differences(found.annotations, FORMATS[args.to].read(args.output, args.images))
        spell_out([*wrong, f"written to {args.output}, and read back: {len(wrong)} images differ"])
        return int(bool(wrong))
    several = any(len({item.label for item in image.objects}) > 1 for image in found.annotations.images)
    print(f"written to {args.output}; train with --set data.name=custom data.root={args.output}"
          f"{' data.multi_label=true' if several else ''}\n")  # fmt: skip
    checks = check_converted(args.output, multi_label=several, threads=args.threads)
    print(f"{table(checks)}\n")
    return report_mistakes(checks, [])


def synthesize(args: argparse.Namespace) -> int:
    options = {"correlation": args.correlation, "seed": args.seed, "threads": args.threads}
    if args.name == "waterbirds":
        folder = synthesize_waterbirds(
            args.cub, args.backgrounds, args.output, corrected=args.corrected_labels, **options
        )
    else:
        if args.corrected_labels:
            raise ValueError("--corrected-labels belongs to waterbirds; the classes of traveling_birds are CUB's own")
        folder = synthesize_traveling_birds(args.cub, args.backgrounds, args.output, **options)
    version = [f" data.version={key}" for key, name in VERSIONS.items() if name == folder.name]
    print(f"written to {folder}; train with --set data.name={args.name} data.root={folder}{''.join(version)}")
    return 0


def with_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="YAML file; its data section counts")
    cli.add_overrides(parser)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.build_parser(__doc__, abbreviations=False)
    commands = parser.add_subparsers(dest="command", required=True)
    added = {name: commands.add_parser(name, help=text, description=text) for name, text in HELP.items()}
    for name in ("verify", "cache", "subset"):
        with_config(added[name])
    for name in ("verify", "cache"):
        added[name].add_argument(
            "--splits", nargs="+", action="extend", default=[], help="default: those of the config, and test"
        )
    added["verify"].add_argument("--quick", action="store_true", help="read the sizes of images, but decode none")
    added["subset"].add_argument(
        "--fractions", type=float, nargs="+", action="extend", required=True, help="such as 0.01 0.1 1"
    )
    added["subset"].add_argument("--output", type=Path, default=Path("subsets"), help="folder (default: subsets)")
    converting = added["convert"]
    converting.add_argument("source", type=Path, help="what the tool exported: a file or a folder")
    converting.add_argument("--from", dest="source_format", choices=sorted(FORMATS), required=True)
    writable = sorted(name for name, form in FORMATS.items() if form.write is not None)
    converting.add_argument(
        "--to", choices=writable, default="coco", help="default: coco, as data.name: custom reads it"
    )
    converting.add_argument("--images", type=Path, required=True, help="folder that holds the images")
    converting.add_argument(
        "--output", type=Path, required=True, help="folder for annotations and a link to the images"
    )
    converting.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="skip: leave out what is faulty"
    )
    making = added["synthesize"]
    making.add_argument("name", choices=SETS)
    making.add_argument("--cub", type=Path, required=True, help="folder that holds CUB_200_2011, or is it")
    making.add_argument("--backgrounds", type=Path, required=True, help="folder of <place>/*.jpg (land and water)")
    making.add_argument("--output", type=Path, required=True, help="folder for the set and CUB's annotation")
    making.add_argument("--correlation", type=float, default=0.95, help="0 to 1 (default: 0.95)")
    making.add_argument("--seed", type=int, default=0)
    making.add_argument("--corrected-labels", action="store_true", help="waterbirds: three land birds labelled right")
    for name in ("verify", "cache", "convert", "synthesize"):
        added[name].add_argument("--threads", type=int, default=os.cpu_count() or 1, help="default: one per core")
    return parser.parse_args(argv)


HELP: Mapping[str, str] = {
    "verify": "count images, classes and boxes of each split, and find what is wrong; exit code 1 if anything is",
    "cache": "build the decoded caches of all splits, or check every pixel of those that are there",
    "subset": "write which training images are annotated at the given fractions; smaller subsets lie within larger ones",
    "convert": "write annotations of other tools as a COCO JSON that data.name: custom reads, or the other way",
    "synthesize": "put the birds of CUB before other backgrounds, with any strength of correlation",
}
COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "verify": verify,
    "cache": cache,
    "subset": subset,
    "convert": convert_annotations,
    "synthesize": synthesize,
}


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    return cli.run(lambda: COMMANDS[args.command](args))


if __name__ == "__main__":
    sys.exit(main())
