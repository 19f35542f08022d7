"""Compare two nets sample by sample: one point for each image and class, baseline against method (AIM, Fig. 5).

    python launch/evaluate.py --checkpoint runs/plain --split test --per-sample runs/plain.csv
    python launch/evaluate.py --checkpoint runs/aim --split test --per-sample runs/aim.csv
    python tools/compare_samples.py --baseline runs/plain.csv --method runs/aim.csv --score epg --output scatter.png

Both tables have the columns "image" and "class", and one for the score; a pair of image and class is compared if it has a
finite score in both. Prints the means, and for how many samples the method scores higher, lower and equal.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from pathlib import Path

from guidance.pictures.plots import plot_samples
from guidance.runs.logs import report_error

Pair = tuple[str, str]  # image, class


def read_scores(path: Path, score: str) -> dict[Pair, float]:
    """(image, class) -> its score, NaN where the table has none. Raises ValueError for a table that is not as expected."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        missing = [name for name in ("image", "class", score) if name not in columns]
        if missing:
            raise ValueError(
                f"{path} has no column {missing[0]!r}; it has {', '.join(columns) or 'none'}. It must be a table that "
                "launch/evaluate.py --per-sample has written"
            )
        scores: dict[Pair, float] = {}
        for row in reader:
            pair = row["image"], row["class"]
            if pair in scores:
                raise ValueError(f"{path}, line {reader.line_num}: image {pair[0]}, class {pair[1]} occurs twice")
            try:
                scores[pair] = float(row[score] or "nan")
            except ValueError as error:
                raise ValueError(f"{path}, line {reader.line_num}: {score} is {row[score]!r}, not a number") from error
    return scores


def join(baseline: dict[Pair, float], method: dict[Pair, float]) -> list[tuple[float, float]]:
    """The scores (baseline, method) of the pairs that have a finite one in both, in the order of the baseline."""
    both = [(value, method[pair]) for pair, value in baseline.items() if pair in method]
    if not both:
        raise ValueError("the tables have no image and class in common; evaluate both nets on the same split")
    found = [scores for scores in both if all(map(math.isfinite, scores))]
    if not found:
        raise ValueError("no image and class has a finite score in both tables")
    return found


def summary(scores: list[tuple[float, float]], names: tuple[str, str], score: str, left_out: int) -> str:
    """What the points say, as text."""
    count = len(scores)
    higher, lower = (sum(sign * (y - x) > 0 for x, y in scores) for sign in (1, -1))
    means = [math.fsum(column) / count for column in zip(*scores, strict=True)]
    width = max(map(len, names))
    lines = [f"{name:<{width}}  mean {score} {mean:.4f}" for name, mean in zip(names, means, strict=True)]
    lines.append(
        f"{names[1]} is higher for {higher} of {count} samples ({higher / count:.1%}), lower for {lower}, "
        f"equal for {count - higher - lower}"
    )
    if left_out:
        lines.append(f"{left_out} samples are left out: they have no {score}, or are in one table only")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, required=True, help="table of the baseline (CSV)")
    parser.add_argument("--method", type=Path, required=True, help="table of the method (CSV)")
    parser.add_argument("--score", default="epg", help="column to compare (default: epg)")
    parser.add_argument("--output", type=Path, default=Path("scatter.png"), help="picture to write")
    parser.add_argument("--names", nargs=2, metavar="NAME", help="of the two nets (default: the names of the files)")
    args = parser.parse_args(argv)
    first, second = args.names or (args.baseline.stem, args.method.stem)
    names = str(first), str(second)
    try:
        tables = [read_scores(path, args.score) for path in (args.baseline, args.method)]
        scores = join(*tables)
        figure = plot_samples([x for x, _ in scores], [y for _, y in scores], args.score, names=names)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(args.output, dpi=200)
    except (ValueError, OSError) as error:
        return report_error(error)
    print(summary(scores, names, args.score, len(tables[0].keys() | tables[1].keys()) - len(scores)))
    print(f"written to {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
