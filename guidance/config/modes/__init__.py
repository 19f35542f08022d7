"""Training modes, one in each file. To add one, write its terms, a `Mode`, and a row in MODES."""

from __future__ import annotations

from guidance.config.modes.aim import AIM
from guidance.config.modes.guided import GUIDED
from guidance.config.modes.mode import Mode

MODES: dict[str, Mode] = {"guided": GUIDED, "aim": AIM}  # objective.mode -> what it is

__all__ = ["MODES", "Mode"]
