"""A page as one HTML document: a template, its style and its scripts, all inside."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path


def document(folder: Path, scripts: Sequence[str], *, title: str, parts: Mapping[str, str]) -> str:
    """page.html of `folder` with {{title}}, {{style}} (page.css), {{script}} (`scripts`, in this order) and the `parts`.

    The title is escaped; parts are put in as they are.
    """
    whole = {
        "title": html.escape(title),
        "style": (folder / "page.css").read_text(encoding="utf-8"),
        "script": "\n".join((folder / name).read_text(encoding="utf-8") for name in scripts),
        **parts,
    }
    template = (folder / "page.html").read_text(encoding="utf-8")
    # In one pass, so that nothing in a part is taken for the place of another.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: whole[found.group(1)], template)
