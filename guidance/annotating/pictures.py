"""Images as a browser takes them: the file itself where it can show it, else a PNG; and small ones for a list."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageOps

from guidance.data.reading.decode import UnreadableError, read_image

# What every browser shows, by its suffix.
SHOWN: Mapping[str, str] = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif",
    ".bmp": "image/bmp",
}  # fmt: skip
SIDE = 96  # pixels of the longer side of a small image


def picture(path: Path, *, displayed: bool) -> tuple[bytes, str]:
    """Content and type of an image. UnreadableError where it cannot be read."""
    kind = SHOWN.get(path.suffix.lower())
    if kind is not None:
        return _read(path), kind
    pixels = read_image(path, displayed=displayed).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue(), "image/png"


def _read(path: Path) -> bytes:
    # `path` has been resolved: were its last part a link now, someone would have changed it since.
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            return file.read()
    except OSError as error:
        raise UnreadableError(f"image {path} cannot be read ({error.strerror or error})") from error


def thumbnail(path: Path, *, displayed: bool) -> bytes:
    """A small JPEG of an image. UnreadableError where it cannot be read."""
    return _thumbnail(path, os.stat(path).st_mtime_ns, displayed)


@lru_cache(maxsize=8192)  # some 3 kB each
def _thumbnail(path: Path, changed: int, displayed: bool) -> bytes:
    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * SIDE, 2 * SIDE))
            small = ImageOps.exif_transpose(image) if displayed else image
            small = small.convert("RGB")
            small.thumbnail((SIDE, SIDE))
            buffer = io.BytesIO()
            small.save(buffer, format="JPEG", quality=80)
            return buffer.getvalue()
    except Exception as error:  # pillow raises OSError, SyntaxError, ValueError and others on broken files
        raise UnreadableError(f"image {path} cannot be read ({error})") from error
