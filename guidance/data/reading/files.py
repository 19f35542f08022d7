"""Reading annotation files. What is missing, malformed or named twice is a ValueError that says where."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import reprlib
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeGuard

Box = tuple[float, float, float, float]
Size = tuple[int, int]  # height, width
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"))
# float() and int() of Python also take 1_0, nan, and digits of other scripts.
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)


def is_image(path: PurePath) -> bool:
    """Whether a file counts as an image, by its name."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path)


def is_hidden(path: PurePath) -> bool:
    """Whether a file or folder is hidden, by its name."""
    return path.name.startswith(".")


class Listing:
    """Which files there are. Each folder is read once, which is much quicker than to ask for file after file."""

    def __init__(self) -> None:
        self._names: dict[Path, frozenset[str]] = {}

    def __contains__(self, path: Path) -> bool:
        folder = path.parent
        if folder not in self._names:
            # Not Path.is_dir, which raises an OSError for a name that is too long.
            self._names[folder] = frozenset(os.listdir(folder)) if os.path.isdir(folder) else frozenset()
        return path.name in self._names[folder]

    def require_image(self, path: Path) -> Path:
        """`path`; a ValueError where there is no such file."""
        if path not in self:
            raise ValueError(f"image {path} does not exist; add it or remove it from the annotation")
        return path


class Once:
    """Finds what is named twice."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._seen: set[Any] = set()

    def check(self, name: Any) -> None:
        """A ValueError where `name` was given before."""
        if name in self._seen:
            raise ValueError(f"{self._what} {name} is listed twice; remove one of the two")
        self._seen.add(name)


def fault_of_file(path: Path) -> str:
    """Why there is no file to read at `path`, as the end of a sentence that begins with its name; empty where there is one.

    A pipe would keep its reader waiting for ever, and a loop of links cannot be opened at all.
    """
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        return "does not exist"
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
    return "" if stat.S_ISREG(kind) else "is no file but a folder, a pipe or a device"


def read_bytes(path: Path, what: str = "") -> bytes:
    """The content of a file; a ValueError that begins with `what` where there is none, or it cannot be read."""
    fault = fault_of_file(path)
    if fault:
        raise ValueError(f"{what}{path} {fault}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{what}{path} cannot be read ({error.strerror or error})") from error


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8, without the byte order mark that some editors put in front."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 (byte {error.start}); save it as UTF-8") from error


def as_number(text: str) -> float:
    """A decimal number, as text files hold it; a ValueError for anything else."""
    if not _DECIMAL.fullmatch(text.strip()):
        raise ValueError(f"{reprlib.repr(text)} is no decimal number")
    return float(text)


def as_integer(text: str) -> int:
    """A whole number, as text files hold it; a ValueError for anything else."""
    if not _INTEGER.fullmatch(text.strip()):
        raise ValueError(f"{reprlib.repr(text)} is no whole number")
    return int(text)


def is_integer(value: Any) -> TypeGuard[int]:
    """Whether a value of a JSON file is a whole number; true and false are none, though Python counts with them."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a number."""
    return isinstance(value, float) or is_integer(value)


def as_box(values: Any, what: str) -> Box:
    """A list of four finite numbers; a ValueError that begins with `what` for anything else."""
    if not isinstance(values, list | tuple) or len(values) != 4 or not all(map(is_number, values)):
        raise ValueError(f"{what} is {reprlib.repr(values)}, expected four finite numbers")
    try:
        x0, y0, x1, y1 = (float(value) for value in values)
    except OverflowError as error:  # a whole number of hundreds of digits
        raise ValueError(f"{what} is {reprlib.repr(values)}, expected four finite numbers") from error
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise ValueError(f"{what} is {reprlib.repr(values)}, expected four finite numbers")
    return x0, y0, x1, y1


def box_from_text(values: Sequence[str | None], what: str) -> Box:
    """`as_box` of what a text file holds."""
    try:
        return as_box([as_number(value or "") for value in values], what)
    except ValueError as error:
        raise ValueError(f"{what} is {reprlib.repr(list(values))}, expected four finite numbers") from error


def box_from_size(box: Box) -> Box:
    """x, y, width, height to x0, y0, x1, y1."""
    x, y, width, height = box
    return x, y, x + width, y + height


def unique_names(names: Iterable[str], what: str) -> tuple[str, ...]:
    """The names as a tuple; a ValueError where one comes twice."""
    once, found = Once(what), tuple(names)
    for name in found:
        once.check(name)
    return found


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    content = read_bytes(path)
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError(f"{path} is not valid JSON (its brackets are nested too deep); correct the file") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); correct the file") from error


def read_csv(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file, with their line numbers; it must have `columns`."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path} has no column {', '.join(missing)}; expected the columns {', '.join(columns)}")
        return [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} of {path} is no CSV ({error}); is a quote left open?") from error
