"""What the decoder says of images that it could decode, but not without guessing."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from guidance.data.reading.decode import UnreadableError, read_image

S = TypeVar("S")
T = TypeVar("T")
# libjpeg's warnings that pixels may be lost; the rest of what it and libpng say is about harmless oddities of headers. Bytes
# between the last pixel and the end ("extraneous bytes before marker 0xd9") may be harmless as well, but damaged pixels are
# most often told by just them: the decoder is done too early.
DAMAGE = re.compile(
    r"Corrupt JPEG data|Premature end|Inconsistent progression|Invalid SOS|Unsupported marker", re.IGNORECASE
)


def listen(run: Callable[[S], T], argument: S) -> tuple[T, bool]:
    """`run(argument)`, and whether the decoder complained of damaged bytes meanwhile.

    Parts of such an image are grey or smeared. The decoder does not return its warnings but prints them, from C, so they are
    read from this process's stderr; whatever else is printed there goes on to it. Nothing is heard where it is closed.
    """
    result, text = _stderr_of(run, argument)
    lines = text.splitlines()
    for line in lines:
        if not DAMAGE.search(line):
            print(line, file=sys.stderr)
    return result, any(map(DAMAGE.search, lines))


def complaint(path: Path) -> str:
    """What the decoder says of the damaged bytes of one image; empty if it says nothing."""
    lines = _stderr_of(_decode, path)[1].splitlines()
    return next((line.strip() for line in lines if DAMAGE.search(line)), "")


def _decode(path: Path) -> None:
    with suppress(UnreadableError):
        read_image(path)


def _stderr_of(run: Callable[[S], T], argument: S) -> tuple[T, str]:
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, AttributeError):  # closed; sys.stderr is then None
        return run(argument), ""
    with tempfile.TemporaryFile() as file:
        try:
            os.dup2(file.fileno(), 2)
            result = run(argument)
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        return result, file.read().decode(errors="replace")
