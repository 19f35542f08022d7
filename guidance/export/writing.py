"""A run -> a checked file, its metadata beside it, and a model card."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from guidance.export.card import model_card
from guidance.export.checking import differences, expected_outputs, sample_images
from guidance.export.formats import FORMATS
from guidance.export.metadata import describe_export
from guidance.inference import Run
from guidance.pictures.layout import write_png
from guidance.runs.files import write_atomically
from guidance.types import lookup


class Exported(NamedTuple):
    """What was written, and how it was checked."""

    file: Path
    metadata: Path  # .json
    card: Path  # .md
    differences: (
        Mapping[str, float] | None
    )  # output -> see `checking.differences`; None where nothing could run the file
    images: str  # what it was checked on


def export(run: Run, kind: str, output: Path, *, maps: bool = False, split: str | None = None) -> Exported:
    """Write `run`, a net on the CPU, to `output` in the format `kind` of FORMATS, with a .json and a .md beside it.

    `maps`: with the map of the predicted class as a second output. `split`: is evaluated for the card, with intervals, and
    pictures in a .png. The file is read back and run on images beside our own net
    before it gets its name, so that one that differs is never left behind. Raises ValueError for an unknown format, for what
    the format cannot hold, and for a file that differs.
    """
    row = lookup(FORMATS, kind, "format (--to)")
    if output.suffix != row.suffix:
        raise ValueError(f"{output}: a file of {kind} ends in {row.suffix}; give --output such a name")
    row.check(run, maps)
    metadata = describe_export(run, kind, maps=maps)
    images, origin = sample_images(run)
    output.parent.mkdir(parents=True, exist_ok=True)
    unchecked = output.with_name(f"unchecked_{output.name}")
    try:
        row.write(unchecked, run, maps, metadata)
        found, agreement = row.read(unchecked, run, images), None
        if found is not None:
            predicted = found[0].argmax(1) if maps else None
            agreement = differences(found, expected_outputs(run, images, predicted))
        os.replace(unchecked, output)
    finally:
        unchecked.unlink(missing_ok=True)
    beside, card = (output.with_name(output.name + end) for end in (".json", ".md"))
    write_atomically(beside, json.dumps(metadata, indent=2) + "\n")
    evaluated, picture = None, None
    if split is not None:
        from guidance.export.evaluated import evaluate_for_card  # needs scipy

        evaluated = evaluate_for_card(run, split)
    if evaluated is not None and evaluated.picture is not None:
        picture = output.with_name(output.name + ".png")
        write_png(picture, evaluated.picture)
    write_atomically(card, model_card(run, metadata, agreement, origin, evaluated=evaluated, picture=picture))
    return Exported(output, beside, card, agreement, origin)
