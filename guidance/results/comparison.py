"""Two nets on the same images: paired tests of a score and of what they get right; how far the numbers of one can be trusted.

A module of its own, because it loads scipy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidance.evaluation.significance import (
    CONFIDENCE,
    Correlation,
    McNemar,
    PairedTests,
    Share,
    mcnemar,
    paired_tests,
    share,
)
from guidance.evaluation.statistics import mean
from guidance.results.samples import Pair, by_image
from guidance.results.tables import align
from guidance.runs.files import finite, write_atomically


@dataclass(frozen=True)
class Comparison:
    """The first net, a baseline, and the second, on the images that both tables have."""

    names: tuple[str, str]
    score: str
    means: tuple[float, float]  # over the images, of the mean over the classes of each
    tests: PairedTests
    right: tuple[Share, Share] | None  # images that each net gets right; None where a table does not say
    mcnemar: McNemar | None


def compare_images(
    tables: tuple[dict[Pair, float], dict[Pair, float]],
    right: tuple[Mapping[str, bool], Mapping[str, bool]],
    *,
    names: tuple[str, str],
    score: str,
) -> Comparison:
    """Compare image by image the scores of `read_scores` and what `read_right` says, both baseline first.

    Several classes of an image are not independent, so an image counts once, with the mean over the classes that have a
    finite score in both tables. ValueError where there is no such image.
    """
    shared = [pair for pair in tables[0] if pair in tables[1]]
    first, second = ({pair: table[pair] for pair in shared} for table in tables)
    both = [pair for pair in shared if finite(first[pair]) is not None and finite(second[pair]) is not None]
    of_images = [by_image({pair: table[pair] for pair in both}) for table in (first, second)]
    values = [list(images.values()) for images in of_images]  # in the order of `both`, so those of the same images
    tests = paired_tests(*values)
    images = [image for image in right[0] if image in right[1]]
    found = [(right[0][image], right[1][image]) for image in images]
    shares = share(sum(a for a, _ in found), len(found)), share(sum(b for _, b in found), len(found))
    changed = mcnemar(sum(a and not b for a, b in found), sum(b and not a for a, b in found))
    return Comparison(
        names, score, (mean(values[0]), mean(values[1])), tests, shares if found else None, changed if found else None
    )


def comparison_table(found: Comparison) -> str:
    """The tests as aligned text, and what they count."""
    tests, level = found.tests, f"{CONFIDENCE:.0%} interval"
    rows = [["", found.score, level, "p"]]
    rows += [[name, f"{value:.4f}", "", ""] for name, value in zip(found.names, found.means, strict=True)]
    rows.append(
        ["mean difference, paired t-test", _signed(tests.difference), _range(tests.t_interval), p_text(tests.t_p)]
    )
    rows.append(["the same, bootstrap over images", "", _range(tests.bootstrap), ""])
    rows.append(["Wilcoxon signed-rank test", "", "", p_text(tests.wilcoxon_p)])
    lines = [f"image by image ({tests.images} images, each the mean over its classes):", align(rows)]
    if found.right is not None and found.mcnemar is not None:
        rows = [["", "images right", level, "p"]]
        for name, right in zip(found.names, found.right, strict=True):
            rows.append([name, f"{right.value:.4f}", _range((right.low, right.high)), ""])
        kind = "exact" if found.mcnemar.exact else f"chi-square {found.mcnemar.statistic:.2f}, continuity-corrected"
        rows.append([f"McNemar's test ({kind})", "", "", p_text(found.mcnemar.p)])
        lines += [
            f"right on {found.right[0].total} images (every class that the tables list of an image; intervals: Wilson):",
            align(rows),
            f"only {found.names[0]} is right on {found.mcnemar.first_only}, only {found.names[1]} on "
            f"{found.mcnemar.second_only}",
        ]
    return "\n".join(lines)


def write_comparison(path: Path, found: Comparison) -> None:
    """Everything that `comparison_table` shows, in full precision; NaN becomes null."""
    tests = found.tests
    content: dict[str, Any] = {
        "names": list(found.names), "score": found.score, "unit": "image", "confidence": CONFIDENCE,
        "means": [finite(value) for value in found.means],
        "tests": {
            name: [finite(end) for end in value] if isinstance(value, tuple) else finite(value)
            for name, value in tests._asdict().items()
        },
        "right": None, "mcnemar": None,
    }  # fmt: skip
    if found.right is not None and found.mcnemar is not None:
        content["right"] = [{k: finite(v) for k, v in right._asdict().items()} for right in found.right]
        content["mcnemar"] = {k: v if isinstance(v, bool) else finite(v) for k, v in found.mcnemar._asdict().items()}
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def significance_table(correlations: Mapping[str, Correlation], accuracies: Mapping[str, Share]) -> str:
    """p-values and intervals of one evaluation, with how many pairs or images they are of; empty without any."""
    rows = [["", "value", f"{CONFIDENCE:.0%} interval", "p", "of"]]
    for name, row in correlations.items():
        if finite(row.r) is not None:
            rows.append([name, f"{row.r:.4f}", _range((row.low, row.high)), p_text(row.p), f"{row.pairs} pairs"])
    for name, part in accuracies.items():
        if part.total:
            rows.append([name, f"{part.value:.4f}", _range((part.low, part.high)), "", f"{part.total} images"])
    return align(rows) if len(rows) > 1 else ""


def p_text(p: float) -> str:
    """A p-value for people: "< 0.001" below that, as papers print it; "-" where there is none."""
    if finite(p) is None:
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _range(interval: tuple[float, float]) -> str:
    low, high = interval
    return "-" if finite(low) is None else f"{low:.4f} to {high:.4f}"


def _signed(value: float) -> str:
    return f"{value:+.4f}"
