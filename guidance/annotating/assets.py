"""The page as one HTML document: a template, its style and its scripts, all inside."""

from __future__ import annotations

import html
import re
import secrets
from pathlib import Path

PARTS = Path(__file__).parent / "page"
SCRIPTS = ("state.js", "saving.js", "list.js", "drawing.js", "net.js", "keys.js", "start.js")  # in this order


def page(title: str) -> tuple[str, str]:
    """The document, and the policy of what it may load: nothing that is not in it, and from nowhere but its own server."""
    nonce = secrets.token_urlsafe(16)
    parts = {
        "title": html.escape(title),
        "nonce": nonce,
        "style": (PARTS / "page.css").read_text(encoding="utf-8"),
        "script": "\n".join((PARTS / name).read_text(encoding="utf-8") for name in SCRIPTS),
    }
    template = (PARTS / "page.html").read_text(encoding="utf-8")
    # In one pass, so that nothing in a part is taken for the place of another.
    text = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found.group(1)], template)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy
