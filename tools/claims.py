"""Judge the claims of the papers by the runs of an experiment: reproduced, not reproduced, inconclusive or not run.

    python tools/claims.py experiments/R1
    python tools/claims.py experiments/R1 --group energy=bcos_energy --group baseline=bcos_baseline

Reads plan.json and the results that launch/evaluate.py has written of its runs. What each claim says, how it is measured and
what counts as reproduced stands in configs/claims/claims.yaml; the rules in guidance/results/claims/verdicts.py. A claim is
never called reproduced from one seed. Prints a table; writes claims.json, claims.csv and claims.md into the folder.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from guidance import cli
from guidance.results.claims.claim_file import read_claims
from guidance.results.claims.report import claims_table, judge_claims, write_claims
from guidance.results.plan_file import read_plan
from guidance.types import suggestion

ROOT = Path(__file__).resolve().parents[1]


def report(experiment: Path, claims: Path, papers: Path, output: Path, groups: Sequence[str]) -> None:
    """Do what the command does."""
    plan = read_plan(experiment)
    known = read_claims(claims, papers)
    used = {check.group for claim in known for check in claim.checks}
    used |= {check.other[0] for claim in known for check in claim.checks if isinstance(check.other, tuple)}
    names = {}
    for pair in groups:
        role, equals, name = pair.partition("=")
        if not equals:
            raise ValueError(f"--group {pair}: expected NAME=GROUP, such as energy=bcos_energy")
        if role not in used:
            raise ValueError(f"--group {pair}: no claim names a group {role!r}.{suggestion(role, used)}")
        if name not in {group.name for group in plan.groups}:
            raise ValueError(f"--group {pair}: the experiment has the groups {', '.join(g.name for g in plan.groups)}")
        names[role] = name
    verdicts = judge_claims(known, plan, names=names)
    print(claims_table(verdicts))
    print(f"written to {', '.join(map(str, write_claims(output, verdicts)))}")


def main(argv: list[str] | None = None) -> int:
    parser = cli.build_parser(__doc__)
    parser.add_argument("experiment", type=Path, help="folder of an experiment, with its plan.json")
    parser.add_argument("--claims", type=Path, default=ROOT / "configs/claims/claims.yaml", help="file of the claims")
    parser.add_argument("--papers", type=Path, default=ROOT / "docs/papers.yaml", help="file of the published numbers")
    parser.add_argument("--output", type=Path, help="folder to write into (default: that of the experiment)")
    parser.add_argument(
        "--group", action="append", default=[], metavar="NAME=GROUP",
        help="the experiment's name for a group of the claims; any number of times",
    )  # fmt: skip
    args = parser.parse_args(argv)
    output = args.output or args.experiment
    return cli.run(lambda: report(args.experiment, args.claims, args.papers, output, args.group))


if __name__ == "__main__":
    sys.exit(main())
