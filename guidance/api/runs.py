"""What the API takes from a run: its method, its classes, its own way of reading images."""

from __future__ import annotations

from guidance.api.nets import Use
from guidance.assembly import build_attribution
from guidance.assembly.sets import encoding
from guidance.attribution import Method, method_of
from guidance.data.transforms.encodings import Encoding
from guidance.inference import Run


def use_of_run(run: Run, attribution: str | Method | None, depth: str | None) -> Use:
    """A run explained as its evaluation does it, or by another method, at that one's own depth where none is given."""
    method, own = build_attribution(run.config)
    lens = run.config.evaluated_attribution.lens is not None
    if attribution is not None:
        method, lens = method_of(attribution), False
        own = method.depth
    return Use(run.model, method, own if depth is None else depth, run.classes, run.config.objective.exclusive, lens)


def encoding_of_run(run: Run) -> tuple[Encoding, bool]:
    """How a run makes inputs of images and how they are shown; and whether files are turned by their EXIF orientation."""
    way = Encoding(lambda pixels: run.prepare(pixels)[0], encoding(run.config).decode)
    return way, run.config.data.orientation == "displayed"
