"""The files of decoded caches: how they are written, and what is left of one that was not finished.

That of images holds a header (4096 bytes of JSON), the images [N, 3, size, size] uint8, and for each image the height and width
of its file and a checksum of its pixels. A file is written under another name and renamed when it is complete, so a killed
build leaves nothing that would be used, and of several processes that build at once one wins.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from guidance.data.reading.decode import UnreadableError, read_image
from guidance.data.source import Record, Source
from guidance.data.transforms.crops import crop_image
from guidance.progress import Progress

FORMAT = 2  # 1: images of more than 8 bits were clipped
HEADER = 4096  # bytes; images start on a page of memory
ENDING, UNFINISHED = ".images", ".unfinished"
CHUNK = 128  # images that are decoded before they are written
SETTLED = 10.0  # seconds without a write after which an unfinished file that nobody locks was left by a kill


def cache_bytes(source: Source, size: int) -> int:
    """Size of the cache file."""
    return HEADER + len(source.records) * (3 * size * size + 24)


def fingerprint(paths: Iterable[Path]) -> str:
    """Of the size and the time of change of files."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(_state(path).encode())
    return digest.hexdigest()


def _state(path: Path) -> str:
    try:
        status = os.stat(path)
        return f"{status.st_size} {status.st_mtime_ns}\n"
    except OSError:
        return "missing\n"


@contextmanager
def new_file(path: Path, required: float) -> Iterator[IO[bytes]]:
    """A file to write, which becomes `path` when the block ends well, and is gone when it does not.

    Raises ValueError where the folder cannot be written or the disk is full; `required`: bytes, for its message.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", suffix=UNFINISHED, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                lock(file)
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(
            f"the cache {path} cannot be written ({error}); it takes {required / 1e9:.3g} GB. Make room, set data.cache to "
            "a folder of another disk, or to null"
        ) from error


def write_header(file: IO[bytes], **content: Any) -> None:
    """At the start of a file, for which HEADER bytes were left."""
    file.seek(0)
    file.write(json.dumps(content).encode())


def read_header(path: Path, format: int | None = None) -> dict[str, Any]:
    """The header of a cache of that format, by default of images; ValueError where it has none."""
    format = FORMAT if format is None else format
    with open(path, "rb") as file:
        text = file.read(HEADER)
    try:
        header: dict[str, Any] = json.loads(text)
        if header["format"] == format and header.keys() >= {"images", "table"}:
            return header
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"it does not start with the header of a cache of format {format}")


def write_images(
    file: IO[bytes], source: Source, size: int, *, images: str, on_error: str, threads: int, progress: bool
) -> None:
    """Decode every image and write the whole content; `images` says which they are, whatever their state."""
    file.write(b" " * HEADER)
    rows = []
    decoded = _decoded(source, size, on_error, threads)
    with Progress(f"caching {source.split}", len(source.records), unit="image", keep=False, shown=progress) as bar:
        for pixels, height, width in bar.track(decoded):
            # Not through a mapping: on a full disk that would end the process without a word.
            file.write(pixels.tobytes())
            rows.append((height, width, checksum(pixels)))
    table = np.array(rows, dtype=np.int64).tobytes()
    file.write(table)
    write_header(file, format=FORMAT, images=images, table=zlib.crc32(table))


def _decoded(source: Source, size: int, on_error: str, threads: int) -> Iterator[tuple[NDArray[np.uint8], int, int]]:
    """Pixels, height and width of each image, in order; zeros for one that cannot be read."""
    with ThreadPoolExecutor(max(1, threads)) as pool:
        decode = partial(_decode, size=size, on_error=on_error, source=source)
        for first in range(0, len(source.records), CHUNK):
            yield from pool.map(decode, source.records[first : first + CHUNK])


def _decode(record: Record, *, size: int, on_error: str, source: Source) -> tuple[NDArray[np.uint8], int, int]:
    try:
        image = read_image(record.path, displayed=source.displayed)
    except UnreadableError:
        if on_error == "raise":
            raise
        return np.zeros((3, size, size), np.uint8), 0, 0
    square = crop_image(image, size, source.crop, source.resizing)
    return square.contiguous().numpy(), image.shape[1], image.shape[2]


def checksum(pixels: NDArray[np.uint8]) -> int:
    return zlib.crc32(pixels.data)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed builds left; a file that a living process writes is locked."""
    for path in folder.glob(f".*{UNFINISHED}"):
        try:
            with open(path, "ab") as file:
                if time.time() - path.stat().st_mtime > SETTLED and lock(file):
                    path.unlink()
        except OSError:
            continue  # another process was faster, or the file is not ours


def remove_outdated(path: Path, prefix: str, images: str, format: int | None = None) -> None:
    """Delete the caches beside `path` that hold the same `images` in another state."""
    for other in path.parent.glob(f"{prefix}*{path.suffix}"):
        try:
            if other != path and read_header(other, format)["images"] == images:
                other.unlink()
        except (OSError, ValueError):
            continue


def lock(file: IO[bytes]) -> bool:
    """Lock an open file until it is closed; False where another process has done so, or the system has no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except (ImportError, OSError):
        return False
