"""The pages that people read: README.md, then those of docs/ in the order of the site, and CONTRIBUTING.md."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def pages() -> dict[str, str]:
    """Place -> text."""
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    places = ["README.md", *(f"docs/{name}" for name in re.findall(r"- ([\w/]+\.md)", navigation)), "CONTRIBUTING.md"]
    return {place: (ROOT / place).read_text() for place in places}
