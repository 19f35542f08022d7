"""The commit of the sources that run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import guidance


def commit() -> str | None:
    """The commit of the sources that run, with "+" where they were changed since; None where they are no checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(guidance.__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # The package must be tracked: installed into another project's folder it is not of that project's commit.
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", ".", ":/launch") else "")
    except (OSError, subprocess.SubprocessError):
        return None
