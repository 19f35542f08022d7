"""The shipped experiments: each is what it says of a paper, run for run, and has a small variant for two cores."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from guidance.assembly import build_classifier, build_objective, build_optimizer, build_source, parameter_groups
from guidance.config import Config
from guidance.data import Source
from guidance.experiments.definition.reading import dump_experiment, load_experiment, parse_experiment
from guidance.experiments.definition.schema import Experiment
from guidance.experiments.expansion import expand, parse_configs
from guidance.models import BACKBONES
from tests.conftest import sample
from tests.unit.config.papers import FAMILIES, PAPERS, PROTOCOLS, ROOT, complaints

FOLDER = ROOT / "configs/experiments"
SMALL = FOLDER / "small"
FULL = sorted(path for path in FOLDER.rglob("*.yaml") if SMALL not in path.parents and path.parent != FOLDER)
VARIANTS = sorted(SMALL.rglob("*.yaml"))
FIRST = re.compile(r"# Published: ((?:\w+, [^;]+)(?:; \w+, [^;]+)*)")
OPEN = "# All that the papers leave open, with what was chosen: docs/papers.yaml."
SAMPLES = {"voc": "voc_sample/VOCdevkit", "coco": "coco_sample", "waterbirds": "waterbirds100"}
MINUTES = 40  # on two cores, by the rough speeds below


def name_of(path: Path) -> str:
    return path.relative_to(SMALL if SMALL in path.parents else FOLDER).with_suffix("").as_posix()


def papers_of(path: Path) -> list[str]:
    """The papers that the first line names."""
    found = FIRST.fullmatch(path.read_text().split("\n", 1)[0])
    assert found is not None, f"{path.name}: the first line is no '# Published: PAPER, WHERE; PAPER, WHERE'"
    return [place.partition(",")[0] for place in found[1].split("; ")]


@cache
def read(path: Path) -> Experiment:
    return load_experiment(path)


def protocols(experiment: Experiment) -> set[str]:
    return {ident for part in experiment.parts.values() for ident in part.published}


@pytest.mark.parametrize("path", FULL, ids=name_of)
def test_an_experiment_is_what_it_says(path: Path) -> None:
    experiment = read(path)
    assert experiment.scale == "full"
    assert complaints(experiment) == []
    assert sorted(papers_of(path)) == sorted({ident.partition("/")[0] for ident in protocols(experiment)})
    assert OPEN in path.read_text().split("\n\n")[0].splitlines()
    assert experiment.evaluate, "nothing would be evaluated on the test split"


@pytest.mark.parametrize("name", FAMILIES)
def test_protocols_and_experiments_name_each_other(name: str) -> None:
    """And where a protocol is a family, an experiment or a config has each of its rows."""
    own = {ident for ident, row in PROTOCOLS.items() if row["family"] == name}
    holding = {name_of(path): protocols(read(path)) & own for path in FULL}
    assert sorted(FAMILIES[name].get("experiments", [])) == sorted(stem for stem, held in holding.items() if held)
    if any(holding.values()):
        assert own - set().union(*holding.values()) == set()


def test_other_files_are_examples() -> None:
    for path in FOLDER.glob("*.yaml"):
        assert path.read_text().startswith("# Example: "), path.name
        assert not protocols(read(path)), f"{path.name} is an example, so nothing in it is published"


# ----------------------------------------------------------------------------------------------------------------------
# what differs is found
# ----------------------------------------------------------------------------------------------------------------------
STAR = FOLDER / "reproduction/energy_star.yaml"
LR, WEIGHT = "optimizer.lr", "objective.localization.weight"


def changed(change: Callable[[dict[str, Any]], Any]) -> list[str]:
    content = yaml.safe_load(dump_experiment(read(STAR)))
    change(content)
    return complaints(parse_experiment(content))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda c: c["groups"]["energy"]["set"].update({LR: 1e-3}),
         [f"energy: {LR} is 0.001, but 0.0001 in reproduction/voc/energy-star-reference"]),
        (lambda c: c["groups"]["energy"]["set"].update({"data.dilation": 0.1}),
         ["energy: data.dilation is set, of which reproduction/voc/energy-star-reference says nothing"]),
        (lambda c: c["groups"]["energy"].update({"published": ["x/y"]}), ["energy: docs/papers.yaml has no protocol x/y"]),
        (lambda c: c["groups"]["energy"].pop("published"), ["energy: it says no protocol"]),
        (lambda c: c["stages"]["baseline"].update({"published": ["model_guidance/voc/baseline-bcos"]}), [
            f"{group}: it does not start from reproduction/voc/baseline-bcos, as reproduction/voc/{row} does"
            for group, row in (("energy", "energy-star-reference"), ("energy_star", "energy-star"))
        ] + [f"model_guidance/voc/baseline-bcos: no run has {LR} {lr}" for lr in (1e-3, 1e-5)]),
    ],
)  # fmt: skip
def test_a_change_is_found(change: Callable[[dict[str, Any]], Any], found: list[str]) -> None:
    assert changed(lambda _: None) == []
    assert changed(change) == found


def test_a_combination_that_is_left_out_is_found() -> None:
    """Each threshold and each stage are there, but not each threshold of each stage."""
    content = yaml.safe_load(dump_experiment(read(FOLDER / "aim/waterbirds95_thresholds.yaml")))
    content["groups"]["waterbirds95_thresholds_stage2"]["grid"]["aim.threshold"] = [0.1, 0.15, 0.2, 0.3, 0.35, 0.4]
    row = "aim/waterbirds95/thresholds"
    assert complaints(parse_experiment(content)) == [f"{row}: no run has aim.stop_stage 2, aim.threshold 0.25"]


# ----------------------------------------------------------------------------------------------------------------------
# small variants
# ----------------------------------------------------------------------------------------------------------------------
def test_every_experiment_has_a_small_variant() -> None:
    assert [name_of(path) for path in VARIANTS] == [name_of(path) for path in FULL]


def rooted(path: Path, tmp_path: Path) -> Experiment:
    """The variant, on the real samples or on a few generated images; the test is skipped where the samples are not there."""
    (name,) = {item.content["data"]["name"] for item in expand(read(path))}
    if name in SAMPLES:
        return load_experiment(path, [f"data.root={sample(SAMPLES[name])}"])
    return load_experiment(path, [f"data.root={tmp_path}", "data.num_train=96", "data.num_val=12", "data.num_test=12"])


@pytest.mark.parametrize("path", VARIANTS, ids=name_of)
def test_a_small_variant_can_be_run(path: Path, tmp_path: Path) -> None:
    """Its data are there, its nets and objectives are built, and it would not take long. (The runs of one seed.)"""
    full = FOLDER / path.relative_to(SMALL)
    text = path.read_text()
    assert (
        text.split("\n", 1)[0]
        == f"# Small: a variant of {full.relative_to(FOLDER)} for two cores, with none of its values."
    )
    assert (path.parent / yaml.safe_load(text)["extends"]).resolve() == full
    experiment = rooted(path, tmp_path)
    assert (experiment.scale, len(experiment.seeds)) == ("small", 3)
    # A stage may train what the experiment downloads.
    assert set(experiment.groups) <= set(read(full).groups), "the variant has groups that the experiment has not"
    configs = parse_configs([item for item in expand(experiment) if item.run.seed == experiment.seeds[0]])
    built, seconds = set(), 0.0
    source_of = one_source_of_each()
    for config in configs.values():
        source = source_of(config)
        assert config.data.image_size <= 112
        assert len(source.records) >= config.trainer.batch_size
        assert config.evaluated_attribution.depth in BACKBONES[config.model.name].depths
        seconds += 20 + config.trainer.epochs * len(source.records) * (config.data.image_size / 64) ** 2 / 40
        kind = config.model.name, config.objective.mode, config.objective.localization.weight > 0
        if kind not in built:
            built.add(kind)
            build(config, source)
    assert len(experiment.seeds) * seconds / 2 / 60 < MINUTES


def one_source_of_each() -> Callable[[Config], Source]:
    """What reads the training split of a config once for all that differ in what is annotated alone."""
    sources: dict[str, Source] = {}

    def source_of(config: Config) -> Source:
        key = config.data.model_dump_json(exclude={"annotated_fraction", "annotated_of", "dilation", "region"})
        if key not in sources:
            sources[key] = build_source(config, config.data.train_split)
        return sources[key]

    return source_of


def build(config: Config, source: Source) -> None:
    """Its net, objective and optimizer."""
    config = config.model_copy(update={"model": config.model.model_copy(update={"weights": "none"})})
    with torch.device("meta"):  # weights without values
        model = build_classifier(config, len(source.classes), pretrained=False)
        objective = build_objective(config, model, source)
    build_optimizer(config, parameter_groups(config, model), 10)
    assert ("localization" in {term.name for term in objective.terms}) == (config.objective.localization.weight > 0)


def test_the_papers_of_first_lines_are_known() -> None:
    assert {paper for path in FULL for paper in papers_of(path)} <= set(PAPERS["results"])


def test_the_pages_of_the_papers_name_every_experiment() -> None:
    text = "\n".join(page.read_text() for page in (ROOT / "docs/papers").glob("*.md"))
    assert [name_of(path) for path in FULL if f"configs/experiments/{name_of(path)}.yaml" not in text] == []
