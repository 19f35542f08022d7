"""Waterbirds (Sagawa et al. 2020): birds of CUB-200-2011 on land or water, where the background predicts the bird."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from guidance.data.reading.files import Listing, Once, as_integer, read_csv
from guidance.data.sets.cub_files import Segmentations, Table, find_cub, read_boxes
from guidance.data.source import Record, Source, check_on_error, fail_or_note, layout_error, lookup_split
from guidance.data.splits import train_or_val
from guidance.types import lookup

VERSIONS: Mapping[str, str] = {"95": "waterbird_complete95_forest2water2", "100": "waterbird_1.0_forest2water2"}
SPLITS: Mapping[str, int] = {"train": 0, "val": 1, "test": 2}


class Task(NamedTuple):
    """What a net is to tell."""

    classes: tuple[str, str]
    label: str  # the column of metadata.csv that holds it
    complement: bool  # evidence belongs outside the bird


TASKS: Mapping[str, Task] = {
    "birds": Task(("landbird", "waterbird"), "y", complement=False),
    "background": Task(("land", "water"), "place", complement=True),
}
GROUPS = ("landbird/land", "landbird/water", "waterbird/land", "waterbird/water")
CONFLICTING_GROUPS = (1, 2)  # bird and background disagree
# "Worst" of Rao et al. 2023 (Table 1: "images containing a waterbird on land") and of its reproduction study, in both tasks.
FIXED_GROUP = 2
VALIDATIONS: Mapping[str, str] = {
    "official": "the published validation split, in which each bird is before each background",
    "filtered": "the same without the groups in which they disagree, as Rao et al. 2023 (reproduction study, Appendix A)",
    "held_out": "a share `val_fraction` of the training images of each bird, which training lacks then (AIM, Table 4)",
}
COLUMNS = ("img_id", "img_filename", "y", "split", "place")

TREE = """
ROOT/
  waterbird_1.0_forest2water2/           version "100"; "95" is waterbird_complete95_forest2water2
    metadata.csv                         img_id,img_filename,y,split,place,place_filename
    <class>/<image>.jpg
  CUB_200_2011/                          may also lie beside that folder
    bounding_boxes.txt                   img_id x y width height (from CUB-200-2011)
    segmentations/<class>/<image>.png    optional; may also lie beside CUB_200_2011
from https://github.com/kohpangwei/group_DRO (95) or https://github.com/spetryk/GALS (100), and
https://www.vision.caltech.edu/datasets/cub_200_2011/
"""


def load_waterbirds(
    root: str | Path,
    split: str,
    *,
    version: str = "100",
    task: str = "birds",
    validation: str = "official",
    val_fraction: float = 0.2,
    split_seed: int = 0,
    on_error: str = "raise",
) -> Source:
    """Split "train", "val" or "test" of Waterbirds: two classes, single-label, four groups 2 * bird + background.

    `version`: "100" or "95", the per cent of training images whose background fits the bird. `task` "birds": the label is
    the bird and evidence belongs inside its box; "background": the label is the background and evidence belongs outside it
    (`Source.complement`, which inverts boxes and segmentations alike; what `read_segments` gives is the bird in both
    tasks). `validation`: what "val" is, see VALIDATIONS; `split_seed` chooses what is held out (see `splits.train_or_val`). The
    segmentations are CUB's, with the bird where the grey value is at least 128. `root` holds the dataset's folder or is it.
    `on_error` "skip" leaves out and counts images whose row in metadata.csv is faulty, or that have no box or no file; "raise"
    makes them a ValueError.
    """
    check_on_error(on_error)
    chosen = lookup(TASKS, task, "task of waterbirds")
    lookup(VALIDATIONS, validation, "data.validation of waterbirds")
    lookup_split(SPLITS, split, "waterbirds")
    folder = _find_folder(Path(root), lookup(VERSIONS, version, "version of waterbirds"))
    cub = find_cub((Path(root), folder.parent), "waterbirds", TREE)
    boxes, segmentations = read_boxes(cub, "waterbirds", TREE), Segmentations(cub)
    held_out = validation == "held_out" and split != "test"
    wanted = SPLITS["train" if held_out else split]
    read = partial(_read_record, wanted=wanted, folder=folder, boxes=boxes, column=chosen.label, birds=segmentations)
    records, problems = _read_records(folder, read, on_error)
    if validation == "filtered" and split == "val":
        records = [record for record in records if record.group not in CONFLICTING_GROUPS]
    if held_out:
        records = _held_out(records, split, folder, val_fraction, split_seed)
    problems = [] if held_out and split == "val" else problems  # a faulty image is counted once
    return Source(
        name="waterbirds",
        split=split,
        classes=chosen.classes,
        records=tuple(records),
        single_label=True,
        groups=GROUPS,
        fixed_group=FIXED_GROUP,
        read_segments=segmentations.read,
        complement=chosen.complement,
        skipped=len(problems),
        problems=tuple(problems),
    )


def _find_folder(root: Path, name: str) -> Path:
    if (root / name).is_dir():
        return root / name
    if (root / "metadata.csv").is_file() and (root.name == name or root.name not in VERSIONS.values()):
        return root
    raise layout_error("waterbirds", root / name, TREE)


def _read_records(
    folder: Path, read: Callable[[Mapping[str, str]], Record | None], on_error: str
) -> tuple[list[Record], list[str]]:
    """What `read` makes of the rows of metadata.csv, and what is wrong with those that are faulty."""
    records, listing, once = [], Listing(), Once("waterbirds: image")
    problems: list[str] = []
    for line, row in _read_rows(folder / "metadata.csv"):
        try:
            record = read(row)
            if record is not None:
                once.check(listing.require_image(record.path))
        except ValueError as error:
            problems += fail_or_note(f"line {line} of {folder / 'metadata.csv'}: {error}", on_error)
        else:
            if record is not None:
                records.append(record)
    return records, problems


def _held_out(records: Sequence[Record], split: str, folder: Path, fraction: float, seed: int) -> list[Record]:
    """Those of the official training images that belong to `split`, "train" or "val"."""
    names = [record.path.relative_to(folder).as_posix() for record in records]
    birds = [record.group // 2 for record in records]
    return train_or_val(records, split, names=names, fraction=fraction, seed=seed, classes=birds)


def _read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows of metadata.csv with their line numbers."""
    if not path.is_file():
        raise layout_error("waterbirds", path, TREE)
    return read_csv(path, COLUMNS)


def _read_record(
    row: Mapping[str, str], wanted: int, folder: Path, boxes: Table, column: str, birds: Segmentations
) -> Record | None:
    """The record of one row of metadata.csv, with the label of `column`; None where the row belongs to another split."""
    try:
        image, bird, split, place = (as_integer(row[name] or "") for name in ("img_id", "y", "split", "place"))
    except ValueError as error:
        raise ValueError("img_id, y, split and place must be integers") from error
    if bird not in (0, 1) or place not in (0, 1) or split not in (0, 1, 2):
        raise ValueError(f"y and place must be 0 or 1, and split 0, 1 or 2; got y {bird}, place {place}, split {split}")
    if split != wanted:
        return None
    label = as_integer(row[column])
    name = row["img_filename"]
    return Record(
        path=folder / name,
        classes=(label,),
        boxes=(boxes.box(image),),
        box_classes=(label,),
        segmentation=birds.find(name),
        group=2 * bird + place,
    )
