"""Compare runs on a split, or report an experiment: the fronts of its groups, and the claims of the papers.

    python tools/report.py runs/demo_unguided runs/demo_guided --split test --output runs/demo
    python tools/report.py EXPERIMENT [EXPERIMENT ...] [JUDGED ...]
    python tools/report.py EXPERIMENT --html

Runs: one table of metrics, and a picture of the same images with each run's attribution maps (report.json, maps.png). A run
folder stands for its last checkpoint; checkpoints can be named too.

Experiments (folders with a plan.json): no net is loaded. Tables of the fronts, and a verdict on each claim of
configs/claims/claims.yaml (reproduced, not reproduced, inconclusive, not run; never reproduced from one seed) by what
launch/evaluate.py has written; the rules are those of guidance/results/claims/verdicts.py. Writes claims.json, claims.csv and
claims.md into --output, or the first folder. A claim over several data sets needs the experiments of all. Claims on the lens
are judged by folders of launch/judge.py (JUDGED).

--html writes report.html in place of maps.png: one file that needs no network, with fronts, claims, curves, tables, maps, masks
and EPG by size, of run folders or of one experiment; nets are loaded, and report.json is written, of --detailed runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from guidance import cli

if not cli.asks_for_help():
    import torch

    from guidance.assembly import build_attribution, build_evaluation_dataset, build_source
    from guidance.assembly.sets import encoding
    from guidance.inference import Evaluation, Run, evaluate_in_detail, load_run
    from guidance.pictures.layout import write_png
    from guidance.pictures.probe import Probe
    from guidance.results.claims.benchmarks import tables_of
    from guidance.results.claims.claim_file import read_claims
    from guidance.results.claims.judging import Verdict, judge_claims, of_experiment, of_judged
    from guidance.results.claims.report import claims_table, write_claims
    from guidance.results.files import write_report
    from guidance.results.groups.asking import choose_metrics, choose_resolution
    from guidance.results.groups.epochs import VAL, read_experiment
    from guidance.results.groups.files import describe_fronts, report_fronts
    from guidance.results.groups.group_fronts import Selection
    from guidance.results.plan_file import PLAN, Plan, read_plan
    from guidance.results.tables import run_table
    from guidance.runs.logs import Image

ROOT = Path(__file__).resolve().parents[1]
CLAIMS, PAPERS = ROOT / "configs/claims/claims.yaml", ROOT / "docs/papers.yaml"
RESAMPLES = 1000


def _input_of(run: Run) -> tuple[object, ...]:
    return run.config.data.image_size, run.config.model.input


def draw_maps(paths: Sequence[Path], titles: Sequence[str], split: str, count: int, device: torch.device) -> Image:
    """The same `count` annotated images of the split, explained by every run."""
    runs = [load_run(path, device=device) for path in paths]
    first = runs[0].config
    dataset = build_evaluation_dataset(first, build_source(first, split))
    probe = Probe.choose(dataset, count, encoding=encoding(first))
    if probe is None:
        raise ValueError(f"{split} has no annotated image to draw")
    maps = {}
    for title, run in zip(titles, runs, strict=True):
        if (run.classes, *_input_of(run)) != (runs[0].classes, *_input_of(runs[0])):
            raise ValueError("the runs must share classes, data.image_size and model.input to be drawn side by side")
        method, depth = build_attribution(run.config)
        maps[title] = probe.maps(run.model, attribution=method, depth=depth, device=device)
    return probe.picture(maps)


def report(paths: Sequence[Path], split: str, output: Path, images: int) -> None:
    """Do what the command does."""
    device = cli.available_device()
    names = [path.name if path.is_dir() else str(path) for path in paths]
    names = [str(path) if names.count(name) > 1 else name for name, path in zip(names, paths, strict=True)]
    found = {n: evaluate_in_detail(p, split, device=device) for n, p in zip(names, paths, strict=True)}
    picture = draw_maps(paths, names, split, images, device)
    write_png(output / "maps.png", picture)
    write_numbers(found, split, output)
    print(f"written to {output}/report.json and {output}/maps.png")


def report_evidence(
    folders: Sequence[Path], split: str, output: Path, *, claims: Path, papers: Path, names: Sequence[str]
) -> tuple[Verdict, ...]:
    """Print the fronts of each experiment and the verdicts on the claims, and write the verdicts into `output`.

    `names`: NAME=GROUP, what the experiments call a group of the claims; `papers`: the file of published numbers. ValueError
    for a folder that is no evidence, an experiment without an epoch, and what is wrong in the file of claims.
    """
    known, evidence = read_claims(claims, papers), []
    for folder in folders:
        if tables_of(folder):
            evidence.append(of_judged(folder))
        else:
            plan = read_plan(folder)
            tell_fronts(plan, split)
            evidence.append(of_experiment(plan))
    verdicts = judge_claims(known, evidence, names=dict(map(_pair, names)))
    print(f"{claims_table(verdicts)}\n")
    print(f"written to {', '.join(map(str, write_claims(output, verdicts)))}")
    return verdicts


def tell_fronts(plan: Plan, split: str) -> None:
    """The tables of fronts, on validation and on the split; or why there are none."""
    experiment = read_experiment(plan)
    notes = list(experiment.notes)
    print(f"{plan.name}\n")
    try:
        metrics, empty = choose_metrics(experiment, None)
        resolution = choose_resolution(experiment, None)
        notes += empty
        for each in dict.fromkeys((VAL, split)):
            report = report_fronts(experiment, Selection(metrics, each, resolution), RESAMPLES)
            print(f"{describe_fronts(report)}\n")
            notes += report.notes
    except ValueError as error:  # the claims need no common front
        notes.append(f"{error} (fronts: tools/fronts.py)")
    for note in dict.fromkeys(notes):
        print(f"note: {note}", file=sys.stderr)


def _pair(text: str) -> tuple[str, str]:
    role, equals, name = text.partition("=")
    if not (role and equals and name):
        raise ValueError(f"--rename {text}: expected NAME=GROUP, such as energy=bcos_energy")
    return role, name


def report_as_html(
    paths: Sequence[Path], split: str, output: Path, *, images: int, detailed: int, verdicts: Sequence[Verdict] = ()
) -> None:
    """The runs, or an experiment with its `verdicts`, as report.html."""
    from reports.page import Choices, write_html  # beside this file

    choices = Choices(split, images, detailed)
    found = write_html(paths, output / "report.html", choices, cli.available_device(), verdicts)
    write_numbers(found, split, output)
    print(f"written to {output}/report.json and {output}/report.html")


def run(args: argparse.Namespace) -> None:
    """Do what the command does."""
    experiments = [path for path in args.runs if (path / PLAN).is_file()]
    evidence = [path for path in args.runs if path in experiments or tables_of(path)]
    if evidence and (len(evidence) < len(args.runs) or (args.html and len(experiments) != 1)):
        raise ValueError(
            "expected either run folders, or experiments (folders with a plan.json) and folders of launch/judge.py, and with "
            "--html a single experiment"
        )
    output = args.output or (evidence[0] if evidence else Path("report"))
    verdicts: tuple[Verdict, ...] = ()
    if evidence:
        verdicts = report_evidence(
            evidence, args.split, output, claims=args.claims, papers=args.papers, names=args.rename
        )
    if args.html:
        counts = {"images": args.images, "detailed": args.detailed}
        report_as_html(experiments or args.runs, args.split, output, **counts, verdicts=verdicts)
    elif not evidence:
        report(args.runs, args.split, output, args.images)


def write_numbers(found: Mapping[str, Evaluation], split: str, output: Path) -> None:
    """report.json, and the table of it."""
    write_report(output / "report.json", {run: (each.metrics, each.settings) for run, each in found.items()})
    if found:
        print(f"\n{split} split\n{run_table({run: each.metrics for run, each in found.items()})}\n")
    print("\n".join(f"{run}: {each.description}" for run, each in found.items()))


def main(argv: list[str] | None = None) -> int:
    about, _, details = (__doc__ or "").partition("\n\n")
    parser = cli.build_parser(about)
    parser.epilog = details
    cli.add_imports(parser)
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        help="run folders or checkpoints, or folders of experiments and of launch/judge.py",
    )
    parser.add_argument("--split", default="test")
    parser.add_argument("--output", type=Path, help="folder of what is written (default: report, or the experiment)")
    parser.add_argument("--images", type=int, default=6, help="rows of the picture")
    parser.add_argument("--html", action="store_true", help="write report.html")
    parser.add_argument("--detailed", type=int, default=12, metavar="N", help="with --html: runs whose maps it shows")
    parser.add_argument("--claims", type=Path, default=CLAIMS, help="file of the claims")
    parser.add_argument("--papers", type=Path, default=PAPERS, help="file of the published numbers")
    parser.add_argument(
        "--rename", action="append", default=[], metavar="NAME=GROUP",
        help="the experiment's name for a group of the claims; any number of times",
    )  # fmt: skip
    args = parser.parse_args(argv)
    return cli.run(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
