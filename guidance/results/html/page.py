"""The report as one HTML file: a template, its style and script, and what is shown, all inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from guidance.pictures.front_panels import BETTER, WORSE
from guidance.pictures.overlays import ramp, to_uint8
from guidance.pictures.plots import RUN_COLOURS
from guidance.results.html.document import document
from guidance.results.html.images import SIDE

PARTS = Path(__file__).parent / "template"
SCRIPTS = ("state.js", "charts.js", "pictures.js", "page.js")  # in this order
# The markers of `plots.plot_front`: as Plotly calls them, and as a sign.
SYMBOLS = (
    ("circle", "●"), ("square", "■"), ("triangle-up", "▲"), ("diamond", "◆"), ("triangle-down", "▼"), ("cross", "✚"),
    ("x", "✖"),
)  # fmt: skip


def write_page(path: Path, content: Mapping[str, Any], *, plotly: str) -> int:
    """Write the page and return its size in bytes.

    `content`: as template/state.js says; `plotly`: the text of Plotly's script.
    """
    look = {
        "colours": RUN_COLOURS,
        "symbols": SYMBOLS,
        "side": SIDE,
        "ramp": _gradient(),
        "better": BETTER,
        "worse": WORSE,
    }
    parts = {"plotly": plotly, "content": embed(dict(content) | {"look": look})}
    text = document(PARTS, SCRIPTS, title=str(content["title"]), parts=parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.write_bytes(text.encode("utf-8", errors="replace"))


def embed(content: Mapping[str, Any]) -> str:
    """JSON that can stand in a script element: no text in it can end the element. ValueError for NaN."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _gradient() -> str:
    """The colours of evidence, from against to for the class, as CSS has them."""
    colours = to_uint8(ramp(11))[0]
    steps = ", ".join(f"rgb({r}, {g}, {b})" for r, g, b in np.asarray(colours).tolist())
    return f"linear-gradient(to right, {steps})"
