"""What can be wrong with a file of a data set."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from tests.torture.mutations import WORDS, flip_bytes, mutate

SIDES = [20, 30, 0, -1, 10**6, 10**12, "x", 20.0]
RUNS = [0, 1, 599, 600, -5, 2**33, 10**15, "x"]
POINTS = [0, 5, 29.5, -3, 1e9, -1e300, float("nan"), 10**400, "x"]


def _edit_text(path: Path, random: Random) -> None:
    try:
        text = path.read_text()
    except (UnicodeDecodeError, OSError):
        return
    numbers, lines = list(re.finditer(r"-?\d+(\.\d+)?", text)), text.splitlines(keepends=True)
    kind = random.choice(("number", "number", "number", "line", "double", "word", "comma"))
    if kind == "number" and numbers:
        found = random.choice(numbers)
        text = text[: found.start()] + random.choice(WORDS) + text[found.end() :]
    elif kind == "line" and lines:
        del lines[random.randrange(len(lines))]
        text = "".join(lines)
    elif kind == "double" and lines:
        text += random.choice(lines)
    elif kind == "word":
        words = list(re.finditer(r"[A-Za-z]+", text))
        if words:
            found = random.choice(words)
            text = text[: found.start()] + random.choice(["x", "", "cat", "../x"]) + text[found.end() :]
    else:
        text = text.replace(",", random.choice([";", " ", ",,"]), 1)
    path.write_text(text)


def _edit_json(path: Path, random: Random) -> None:
    if path.suffix != ".json":
        return _edit_text(path, random)
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError, OSError):
        return None
    for _ in range(random.randint(1, 3)):
        content = mutate(content, random)
    path.write_text(json.dumps(content))
    return None


def _edit_segmentation(path: Path, random: Random) -> None:
    """A malformed shape in an annotation of a JSON; another file gets other bytes."""
    if path.suffix != ".json":
        return _edit_bytes(path, random)
    try:
        content = json.loads(path.read_text())
        entry = random.choice(content["annotations"])
        size = [random.choice(SIDES) for _ in range(2)]
        runs = [random.choice(RUNS) for _ in range(random.randint(0, 5))]
        text = "".join(chr(random.randrange(40, 120)) for _ in range(random.randint(0, 30)))
        points = [random.choice(POINTS) for _ in range(random.randint(0, 12))]
        codes = [{"size": size, "counts": runs}, {"size": [20, 30], "counts": runs}, {"size": [20, 30], "counts": text}]
        entry["segmentation"] = random.choice([*codes, [points], points, {"counts": runs}])
        path.write_text(json.dumps(content))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        pass
    return None


def _edit_bytes(path: Path, random: Random) -> None:
    path.write_bytes(flip_bytes(path.read_bytes(), random))


def _replace(path: Path, random: Random) -> None:
    """Something that is no file, or none that is expected."""
    kind = random.choice(("pipe", "loop", "folder", "dangling", "text", "random", "gone", "moved"))
    if kind == "moved":
        path.rename(path.with_name(random.choice(["x.jpg", "é.jpg", "a b.png", ".hidden.jpg", path.name.upper()])))
        return
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "dangling":
        path.symlink_to(path.with_name("nothing"))
    elif kind == "text":
        path.write_text("hello")
    elif kind == "random":
        path.write_bytes(random.randbytes(random.randrange(2000)))


def _other_picture(path: Path, random: Random) -> None:
    """Another type, size or orientation than an image file is expected to have."""
    if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        return _edit_text(path, random)
    exif = Image.Exif()
    exif[274] = random.randint(0, 9)
    size = random.choice([(20, 30), (30, 20), (1, 1), (1, 500), (20, 31), (300, 2)])
    mode = random.choice(["L", "RGB", "CMYK", "I;16", "I", "F", "1", "P", "LA", "RGBA"])
    kind = random.choice(["JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP", "header"])
    if kind == "header":  # a PNG that says it is huge
        body = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + b"\0\0\0\0")
        return None
    pixels = np.random.default_rng(random.randrange(99)).integers(0, 255, size)
    dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}.get(mode, np.uint8)
    image = Image.fromarray(pixels.astype(dtype))
    try:
        image = image if mode in ("I;16", "I", "F") else image.convert(mode)
        image.save(path, kind, exif=exif)
    except (OSError, ValueError):
        image.convert("RGB").save(path, "JPEG", exif=exif)
    return None


FAULTS: list[Callable[[Path, Random], None]] = [
    _edit_text, _edit_text, _edit_json, _edit_json, _edit_segmentation, _edit_bytes, _replace, _other_picture
]  # fmt: skip
