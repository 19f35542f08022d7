"""What is trained: objectives as lists of terms.

`guided_objective` and `aim_objective` make the objectives of the two modes; any list of `Term`s makes another.
"""

from __future__ import annotations

from guidance.objectives.aim import Masking, aim_objective
from guidance.objectives.behaviour import Behaviour
from guidance.objectives.guided import guided_objective
from guidance.objectives.localization import Localization, localization_terms
from guidance.objectives.objective import Classification, ClassificationTerm, Counts, Losses, Objective, Term

__all__ = [
    "Behaviour",
    "Classification",
    "ClassificationTerm",
    "Counts",
    "Localization",
    "Losses",
    "Masking",
    "Objective",
    "Term",
    "aim_objective",
    "guided_objective",
    "localization_terms",
]
