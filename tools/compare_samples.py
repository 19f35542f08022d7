"""Compare two nets sample by sample: one point for each image and class, baseline against method (AIM, Fig. 5).

    python launch/evaluate.py --checkpoint runs/plain --split test --per-sample runs/plain.csv
    python launch/evaluate.py --checkpoint runs/aim --split test --per-sample runs/aim.csv
    python tools/compare_samples.py --baseline runs/plain.csv --method runs/aim.csv --score epg --output scatter.png

Both tables have the columns "image" and "class", and one for the score; a pair of image and class is compared if it has a
finite score in both. Prints the means, and for how many samples the method scores higher, lower and equal.

Then image by image, because several classes of one image are not independent: the mean difference with its interval, the
paired t-test and Wilcoxon's signed-rank test; and, from the columns "target" and "predicted", how many images each net gets
right, with McNemar's test. These are also written beside the picture, as JSON.
"""

from __future__ import annotations

import sys
from pathlib import Path

from guidance import cli

if not cli.asks_for_help():
    from guidance.pictures.plots import plot_samples
    from guidance.results.samples import join, read_right, read_scores, summary


def compare(baseline: Path, method: Path, score: str, output: Path, names: tuple[str, str]) -> None:
    """Do what the command does."""
    from guidance.results.comparison import compare_images, comparison_table, write_comparison  # needs scipy

    if output.suffix.lower() == ".json":
        raise ValueError(
            f"{output} is to be the picture; the numbers go beside it, as JSON. Name it .png, .pdf or .svg"
        )
    tables = read_scores(baseline, score), read_scores(method, score)
    scores = join(*tables)
    found = compare_images(tables, (read_right(baseline), read_right(method)), names=names, score=score)
    figure = plot_samples([x for x, _ in scores], [y for _, y in scores], score, names=names)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=200)
    print(summary(scores, names, score, len(tables[0].keys() | tables[1].keys()) - len(scores)))
    print(f"\n{comparison_table(found)}")
    numbers = output.with_suffix(".json")
    write_comparison(numbers, found)
    print(f"written to {output}, {numbers}")


def main(argv: list[str] | None = None) -> int:
    parser = cli.build_parser(__doc__)
    parser.add_argument("--baseline", type=Path, required=True, help="table of the baseline (CSV)")
    parser.add_argument("--method", type=Path, required=True, help="table of the method (CSV)")
    parser.add_argument("--score", default="epg", help="column to compare (default: epg)")
    parser.add_argument("--output", type=Path, default=Path("scatter.png"), help="picture to write")
    parser.add_argument("--names", nargs=2, metavar="NAME", help="of the two nets (default: the names of the files)")
    args = parser.parse_args(argv)
    first, second = args.names or (args.baseline.stem, args.method.stem)
    return cli.run(lambda: compare(args.baseline, args.method, args.score, args.output, (str(first), str(second))))


if __name__ == "__main__":
    sys.exit(main())
