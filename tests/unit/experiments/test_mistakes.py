"""Mistakes in the file of an experiment are found before anything starts, each on a line with its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from guidance.experiments.definition.reading import load_experiment, parse_experiment
from guidance.experiments.expansion import expand, parse_configs
from tests.unit.experiments.pretended import BASE, TWO_STAGES, experiment

GROUP: dict[str, Any] = {"base": BASE, "groups": {"g": {}}}
FROM = {"from": "s"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"groups": {"g": {}}}, r"\n  - base: Field required"),
        ({"base": BASE}, r"neither groups nor stages"),
        (GROUP | {"group": {}}, r"- group: unknown key; known here: .*set.*Did you mean 'groups'\?"),
        (GROUP | {"groups": {"g": {"grids": {}}}}, r"- groups.g.grids: unknown key; known here: .*from, set, list.*'grid'"),
        (GROUP | {"groups": {"g": {"start": "s"}}}, r"- groups.g.start: unknown key"),
        (GROUP | {"groups": {"a b": {}}}, r"- groups.a b.*match pattern"),
        (GROUP | {"groups": {"g": {"grid": {"optimizer.lr": []}}}}, r"- groups.g.grid.optimizer.lr: .*at least 1"),
        (GROUP | {"groups": {"g": {"seeds": [1, 1]}}}, r"groups.g.seeds: a seed is given twice"),
        (GROUP | {"seeds": [-1]}, r"- seeds.0: .*greater than or equal to 0 \(given: -1\)"),
        (GROUP | {"groups": {"g": {"set": {"x.y": 1}, "grid": {"x.y": [2]}}}}, r"groups.g: x.y is varied, and `set` has"),
        (GROUP | {"groups": {"g": {"list": [{"x.y": 1}], "grid": {"x.y": [2]}}}}, r"groups.g: x.y is varied, and `list`"),
        (GROUP | {"groups": {"g": {"list": [{}]}}}, r"groups.g.list: an item is empty"),
        (GROUP | {"groups": {"g": {"grid": {"seed": [1, 2]}}}}, r"groups.g: seed: give it as `seeds"),
        (GROUP | {"groups": {"g": {"published": ["a/b"]}}}, r"g.published needs `scale: full`, or `scale: small`"),
        (GROUP | {"scale": "full", "groups": {"g": {"published": [""]}}}, r"- groups.g.published.0: .*at least 1"),
        (GROUP | {"groups": {"g": FROM}}, r"groups.g.from: there is no stage 's'; stages: none"),
        (GROUP | {"groups": {"g": FROM, "s": {}}}, r"there is no stage 's' \(it is a group: move it to `stages`\)"),
        (GROUP | {"stages": {"g": {}}}, r"'g' is a stage and a group"),
        (GROUP | {"stages": {"s": FROM}}, r"stages.s.from: the stages s start from each other"),
        (GROUP | {"stages": {"s": {"best": "f2"}}}, r"- stages.s.best: there is no metric 'f2'"),
        (GROUP | {"stages": {"s": {"best": "classification"}}}, r"- stages.s.best: classification is a loss"),
        ({"base": BASE, "stages": {"s": {"grid": {"optimizer.lr": [1, 2]}}}, "groups": {"g": FROM}}, r"s.best: g starts"),
        ({"base": BASE, "stages": {"s": {"seeds": [0, 1]}}, "groups": {"g": FROM | {"seeds": [2]}}}, r"has no run of seed 2"),
        (
            {"base": BASE, "stages": {"s": {}}, "groups": {"g": FROM | {"set": {"model.weights": "x"}}}},
            r"groups.g: `from` decides model.weights",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_named(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^experiment is not a valid experiment:(.|\n)*{message}"):
        parse_experiment(content)


def test_all_mistakes_of_a_file_and_of_all_runs_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"is not") as told:
        parse_experiment({"base": BASE, "grups": 1, "groups": {"g": {"labl": "x"}, "h": {"seeds": []}}})
    assert [line.partition(":")[0] for line in str(told.value).splitlines()[1:]] == [
        "  - groups.g.labl", "  - groups.h.seeds", "  - grups",
    ]  # fmt: skip
    wrong = experiment(set={"optimizer.lrr": 1, "trainer.batch_size": 0}, stages={}, groups={
        "g": {"grid": {"objective.localization.loss": ["energy", "enrgy"]}},
        "h": {"set": {"optimizer.lrr": 2, "trainer.batch_size": 8}},
    })  # fmt: skip
    with pytest.raises(ValueError, match="the configs of these runs are not valid") as told:
        parse_configs(expand(wrong))
    lines = str(told.value).splitlines()[1:]
    assert [line.partition(": ")[0] for line in lines] == ["  - g/0000 and 5 more", "  - g/0000 and 3 more"]
    assert "optimizer.lrr: unknown key" in lines[0]
    assert "Did you mean 'lr'?" in lines[0]
    assert "trainer.batch_size: Input should be greater than or equal to 1" in lines[1]
    with pytest.raises(ValueError, match=r"- g/0000 and 1 more: .*'enrgy'.*Did you mean 'energy'"):
        parse_configs(expand(experiment(stages={}, groups={"g": {"set": {"objective.localization.loss": "enrgy"}}})))
    with pytest.raises(
        ValueError, match=r"g/0000 and 1 more: trainer.batch_size: 64 images cannot be shared equally by 3"
    ):
        parse_configs(expand(experiment(stages={}, groups={"g": {}})), processes=3)


def test_two_runs_that_are_the_same() -> None:
    with pytest.raises(ValueError, match="two runs of g have the same settings and seed"):
        expand(experiment(stages={}, groups={"g": {"list": [{"optimizer.lr": 1}, {"optimizer.lr": 1}]}}))


def test_files_that_are_not_there_or_no_experiments(tmp_path: Path) -> None:
    (tmp_path / "losses.yaml").write_text(TWO_STAGES.replace("BASE", "nothing.yaml"))
    with pytest.raises(ValueError, match=r"there is no experiment file .*loses.yaml. Did you mean .*losses.yaml"):
        load_experiment(tmp_path / "loses.yaml")
    with pytest.raises(ValueError, match=r"there is no config file .*nothing.yaml"):
        expand(load_experiment(tmp_path / "losses.yaml"))
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(ValueError, match="must hold keys such as 'base:' and 'groups:', not list"):
        load_experiment(tmp_path / "list.yaml")
    (tmp_path / "extends.yaml").write_text(yaml.safe_dump({"extends": ["losses.yaml"]}))
    with pytest.raises(ValueError, match="extends is the path of an experiment file"):
        load_experiment(tmp_path / "extends.yaml")
