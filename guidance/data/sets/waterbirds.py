"""Waterbirds (Sagawa et al. 2020): birds of CUB-200-2011 on land or water, where the background predicts the bird."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from guidance.data.reading.files import Listing, Once, as_integer, read_csv
from guidance.data.sets.cub_files import Segmentations, Table, find_cub, read_boxes
from guidance.data.source import Record, Source, check_on_error, fail_or_note, layout_error, lookup_split
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
    filter_validation: bool = False,
    on_error: str = "raise",
) -> Source:
    """Split "train", "val" or "test" of Waterbirds: two classes, single-label, four groups 2 * bird + background.

    `version`: "100" or "95", the per cent of training images whose background fits the bird. `task` "birds": the label is
    the bird and evidence belongs inside its box; "background": the label is the background and evidence belongs outside it
    (`Source.complement`, which inverts boxes and segmentations alike; what `read_segments` gives is the bird in both
    tasks). `filter_validation` drops the validation groups where bird and background disagree, as Rao et al. 2023 do, so
    that nothing about them leaks into model selection. The segmentations are CUB's, with the bird where the grey value is
    at least 128. `root` holds the dataset's folder or is it. `on_error` "skip" leaves out and counts images whose row in
    metadata.csv is faulty, or that have no box or no file; "raise" makes them a ValueError.
    """
    check_on_error(on_error)
    chosen = lookup(TASKS, task, "task of waterbirds")
    lookup_split(SPLITS, split, "waterbirds")
    folder = _find_folder(Path(root), lookup(VERSIONS, version, "version of waterbirds"))
    cub = find_cub((Path(root), folder.parent), "waterbirds", TREE)
    boxes, segmentations = read_boxes(cub, "waterbirds", TREE), Segmentations(cub)
    records, listing, once = [], Listing(), Once("waterbirds: image")
    problems: list[str] = []
    left_out = CONFLICTING_GROUPS if filter_validation and split == "val" else ()
    for line, row in _read_rows(folder / "metadata.csv"):
        try:
            record = _read_record(row, SPLITS[split], folder, boxes, chosen.label, segmentations)
            if record is not None:
                once.check(listing.require_image(record.path))
        except ValueError as error:
            problems += fail_or_note(f"line {line} of {folder / 'metadata.csv'}: {error}", on_error)
        else:
            if record is not None and record.group not in left_out:
                records.append(record)
    return Source(
        name="waterbirds",
        split=split,
        classes=chosen.classes,
        records=tuple(records),
        single_label=True,
        groups=GROUPS,
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


def _read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows of metadata.csv with their line numbers."""
    if not path.is_file():
        raise layout_error("waterbirds", path, TREE)
    return read_csv(path, COLUMNS)


def _read_record(
    row: Mapping[str, str], wanted: int, folder: Path, boxes: Table, column: str, segmentations: Segmentations
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
        segmentation=segmentations.find(name),
        group=2 * bird + place,
    )
