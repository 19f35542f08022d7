"""The page, and the policy of what it may load."""

from __future__ import annotations

import secrets
from pathlib import Path

from guidance.results.html.document import document

PARTS = Path(__file__).parent / "page"
SCRIPTS = ("state.js", "saving.js", "list.js", "drawing.js", "net.js", "keys.js", "start.js")  # in this order


def page(title: str) -> tuple[str, str]:
    """The document, and the policy of what it may load: nothing that is not in it, and from nowhere but its own server."""
    nonce = secrets.token_urlsafe(16)
    text = document(PARTS, SCRIPTS, title=title, parts={"nonce": nonce})
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy
