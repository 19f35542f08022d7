"""The files of CUB-200-2011 (Wah et al. 2011), which the sets made from its birds use too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from guidance.data.reading.decode import read_object_segments
from guidance.data.reading.files import Box, Listing, as_integer, box_from_size, box_from_text, read_text, unique_names
from guidance.data.source import Record, layout_error

BOX_COLUMNS = ("img_id", "x", "y", "width", "height")
# The released segmentations are grey pictures; from half of the brightness on, a pixel counts as bird.
read_bird = partial(read_object_segments, threshold=128)


class Table(NamedTuple):
    """A text file of CUB with an id, then `columns`, in each line."""

    path: Path
    columns: tuple[str, ...]
    lines: dict[int, tuple[int, str]]  # id -> line number and line

    def row(self, image: int) -> list[str]:
        """What follows the id in its line; a ValueError where the line is missing or has other columns."""
        if image not in self.lines:
            raise ValueError(f"{self.columns[0]} {image} has no line in {self.path.parent.name}/{self.path.name}")
        number, line = self.lines[image]
        fields = line.split()
        if len(fields) != len(self.columns):
            raise ValueError(f"line {number} of {self.path} is {line!r}, expected {' '.join(self.columns)!r}")
        return fields[1:]

    def integer(self, image: int, allowed: Sequence[int]) -> int:
        """The only value of a row, one of the numbers `allowed`."""
        (value,) = self.row(image)
        if value not in map(str, allowed):
            expected = f"{allowed[0]} to {allowed[-1]}"
            raise ValueError(
                f"line {self.lines[image][0]} of {self.path} has {self.columns[1]} {value!r}, not {expected}"
            )
        return int(value)

    def box(self, image: int) -> Box:
        """A row of x, y, width and height as corners."""
        row = self.row(image)
        return box_from_size(box_from_text(row, f"line {self.lines[image][0]} of {self.path}: x y width height"))


class Segmentations:
    """The segmentations of CUB; they lie in `segmentations`, in or beside the folder `cub`, or nowhere."""

    def __init__(self, cub: Path) -> None:
        folders = [parent / "segmentations" for parent in (cub, cub.parent)]
        self._folder = next((folder for folder in folders if folder.is_dir()), None)
        self._listing = Listing()

    def find(self, name: str) -> Path | None:
        """The segmentation of <class folder>/<image>.jpg, where there is one."""
        if self._folder is None:
            return None
        path = (self._folder / name).with_suffix(".png")
        return path if path in self._listing else None

    @property
    def read(self) -> Callable[[Record], Mapping[int, Tensor]] | None:
        """`Source.read_segments`; None where there are no segmentations at all."""
        return None if self._folder is None else read_bird


def read_table(path: Path, columns: Sequence[str], dataset: str, tree: str) -> Table:
    """Read a text file of CUB. A missing file, a line without an integer id and an id that comes twice are ValueErrors."""
    if not path.is_file():
        raise layout_error(dataset, path, tree)
    lines: dict[int, tuple[int, str]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            key = as_integer(line.split()[0])
        except ValueError as error:
            raise ValueError(f"line {number} of {path} is {line!r}, expected {' '.join(columns)!r}") from error
        if key in lines:
            raise ValueError(f"{columns[0]} {key} is listed twice in {path} (lines {lines[key][0]} and {number})")
        lines[key] = (number, line)
    return Table(path, tuple(columns), lines)


def read_boxes(cub: Path, dataset: str, tree: str) -> Table:
    """bounding_boxes.txt, for `Table.box`."""
    return read_table(cub / "bounding_boxes.txt", BOX_COLUMNS, dataset, tree)


def find_cub(parents: Iterable[Path], dataset: str, tree: str) -> Path:
    """The folder CUB_200_2011 in one of `parents`."""
    folders = [parent / "CUB_200_2011" for parent in parents]
    for folder in folders:
        if (folder / "bounding_boxes.txt").is_file():
            return folder
    raise layout_error(dataset, folders[-1] / "bounding_boxes.txt", tree)


def bird_names(folders: Sequence[str]) -> tuple[str, ...]:
    """Class names from names such as 001.Black_footed_Albatross; the number stays where two names would be equal."""
    names = [folder.partition(".")[2] or folder for folder in folders]
    return unique_names((full if names.count(short) > 1 else short for full, short in zip(folders, names, strict=True)),
                        "class")  # fmt: skip
