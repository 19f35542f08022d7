"""The protocols of docs/papers.yaml, and where the settings of a run, or the runs of an experiment, depart from them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from guidance.experiments.definition.schema import Experiment, RunsSettings
from guidance.experiments.expansion import Drawn, expand, parse_configs

ROOT = Path(__file__).parents[3]
PAPERS: dict[str, Any] = yaml.safe_load((ROOT / "docs/papers.yaml").read_text())
KEYS = {"source", "values", "rows", "not_given", "from", "seeds", "others", "configs", "experiments"}
CHOICES = ("each", "one_of")
# What an experiment may set without any paper saying so: where and how fast a run is made, and what it shows.
FREE = (
    "data.root", "data.on_error", "data.num_workers", "data.cache", "data.check", "evaluation.batch_size", "evaluation.scores",
    "trainer.accumulate", "trainer.checkpoint_every", "log.",
)  # fmt: skip


def members(name: str, protocol: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a family by their ids, or the row itself, with `family`: the name in the file."""
    rows: Mapping[str, Mapping[str, Any]] = protocol.get("rows", {})
    for chosen in itertools.product(*(table.items() for table in rows.values())):
        ident, member = name, dict(protocol) | {"family": name}
        member["values"], member["not_given"] = dict(protocol["values"]), dict(protocol.get("not_given", {}))
        for word, (row, settings) in zip(rows, chosen, strict=True):
            assert word in ident, f"{name}: there is no {word} in the id"
            ident = ident.replace(word, row)
            own = dict(settings)
            member["not_given"] |= own.pop("not_given", {})
            member |= {"from": own.pop("from")} if "from" in own else {}
            member["values"] |= own
        yield ident, member


def rows_of(protocols: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """All rows by id."""
    found: dict[str, dict[str, Any]] = {}
    for name, protocol in protocols.items():
        for ident, member in members(name, protocol):
            assert ident not in found, f"{ident} is a row of {name} and of {found[ident]['family']}"
            found[ident] = member
    return found


FAMILIES: dict[str, dict[str, Any]] = PAPERS["protocols"]
PROTOCOLS = rows_of(FAMILIES)


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def wanted(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """What the paper says, and, where it leaves a setting open, what the file says we chose."""
    return dict(protocol["values"]) | {key: ours for key, (ours, _) in protocol.get("not_given", {}).items()}


def departures(protocol: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """The settings that are not as wanted."""
    return [key for key, value in wanted(protocol).items() if not agrees(value, settings, key)]


def agrees(value: Any, settings: Mapping[str, Any], key: str) -> bool:
    if key not in settings:
        return False
    # True is no 1.
    return any(settings[key] == c and isinstance(settings[key], bool) == isinstance(c, bool) for c in choices(value))


def choices(value: Any) -> list[Any]:
    return list(next(iter(value.values()))) if isinstance(value, dict) else [value]


# ----------------------------------------------------------------------------------------------------------------------
# experiments
# ----------------------------------------------------------------------------------------------------------------------
def complaints(experiment: Experiment) -> list[str]:
    """Where the runs of an experiment are not the protocols that its groups and stages name."""
    found = []
    runs = settings_of(experiment)
    for name, part in experiment.parts.items():
        if not part.published:
            found.append(f"{name}: it says no protocol")
        for ident in part.published:
            if ident not in PROTOCOLS:
                found.append(f"{name}: docs/papers.yaml has no protocol {ident}")
                continue
            found += [f"{name}: {told}" for told in _of_part(experiment, part, runs[name], ident)]
    return found + _left_out(experiment, runs)


def settings_of(experiment: Experiment) -> dict[str, list[dict[str, Any]]]:
    """Every setting of the runs of each group and stage, without those that differ in the seed alone."""
    drawn = expand(experiment)
    first: dict[str, list[Drawn]] = {}
    for item in drawn:
        runs = first.setdefault(item.run.group, [])
        if not runs or item.run.seed == runs[0].run.seed:
            runs.append(item)
    configs = parse_configs([item for runs in first.values() for item in runs])
    return {
        group: [flat(configs[item.run.name].model_dump(mode="json")) for item in runs] for group, runs in first.items()
    }


def _of_part(experiment: Experiment, part: RunsSettings, runs: list[dict[str, Any]], ident: str) -> Iterator[str]:
    protocol = PROTOCOLS[ident]
    for settings in runs:
        for key in departures(protocol, settings):
            yield f"{key} is {settings.get(key)}, but {wanted(protocol)[key]} in {ident}"
    varied = set(experiment.settings) | set(part.settings) | set(part.grid).union(*part.points)
    for key in sorted(varied - set(wanted(protocol))):
        if not key.startswith(FREE):
            yield f"{key} is set, of which {ident} says nothing"
    start = protocol.get("from")
    if start is not None and (part.start is None or start not in experiment.stages[part.start].published):
        yield f"it does not start from {start}, as {ident} does"
    if len(part.seeds or experiment.seeds) < protocol.get("seeds", 1):
        yield f"{ident} has {protocol['seeds']} seeds"


def _left_out(experiment: Experiment, runs: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """What a paper runs `each` of, in all combinations, and the experiment does not."""
    idents = sorted({ident for part in experiment.parts.values() for ident in part.published} & set(PROTOCOLS))
    found = []
    for ident in idents:
        own = [
            settings for name, part in experiment.parts.items() if ident in part.published for settings in runs[name]
        ]
        each = {key: choices(value) for key, value in wanted(PROTOCOLS[ident]).items() if _is_each(value)}
        for combination in itertools.product(*each.values()):
            missing = dict(zip(each, combination, strict=True))
            if each and not any(all(settings.get(key) == v for key, v in missing.items()) for settings in own):
                found.append(f"{ident}: no run has {', '.join(f'{key} {v}' for key, v in missing.items())}")
    return found


def _is_each(value: Any) -> bool:
    return isinstance(value, dict) and "each" in value
