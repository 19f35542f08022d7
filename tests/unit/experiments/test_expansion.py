"""An experiment becomes runs: their names, order, settings, configs and what they start from, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from guidance.config import parse_config
from guidance.experiments.definition.reading import dump_experiment, load_experiment
from guidance.experiments.definition.schema import GroupSettings
from guidance.experiments.expansion import expand, groups, parse_configs, points, select
from guidance.results.plan_file import Plan
from tests.unit.experiments.pretended import BASE, TWO_STAGES, experiment

LR, WEIGHT = "optimizer.lr", "objective.localization.weight"


def test_names_order_seeds_and_settings() -> None:
    drawn = expand(experiment())
    assert [(d.run.name, d.run.seed, dict(d.run.settings)) for d in drawn] == [
        ("baseline/0000", 0, {LR: 1e-3}), ("baseline/0001", 1, {LR: 1e-3}),
        ("baseline/0002", 0, {LR: 1e-4}), ("baseline/0003", 1, {LR: 1e-4}),
        ("energy/0000", 0, {WEIGHT: 5e-4}), ("energy/0001", 1, {WEIGHT: 5e-4}),
        ("energy/0002", 0, {WEIGHT: 1e-3}), ("energy/0003", 1, {WEIGHT: 1e-3}),
    ]  # fmt: skip
    assert [str(d.run.folder) for d in drawn][-1] == "runs/energy/0003"
    assert drawn[0].candidates == ()
    assert [d.candidates for d in drawn[4:]] == [
        ("baseline/0000", "baseline/0002"), ("baseline/0001", "baseline/0003")
    ] * 2  # fmt: skip
    assert [(g.name, g.label, g.baseline) for g in groups(experiment())] == [
        ("baseline", "Baseline", True), ("energy", "Energy, IxG", False),
    ]  # fmt: skip


def test_a_run_has_the_config_of_the_base_with_all_that_is_set() -> None:
    found = parse_configs(expand(experiment(set={"trainer.batch_size": 8})))["energy/0003"]
    expected = parse_config(BASE | {
        "seed": 1, "trainer": {"epochs": 2, "batch_size": 8}, "objective": {"localization": {"loss": "energy", "weight": 1e-3}},
        "model": {"name": "resnet18", "weights": found.model.weights},
    })  # fmt: skip
    assert found == expected
    drawn = expand(experiment())[-1]
    assert drawn.config(Path("/x/y.pt")).model.weights == "/x/y.pt"
    assert "weights" not in drawn.content["model"]  # asking for a config leaves no trace


def test_grids_and_lists() -> None:
    both = GroupSettings.model_validate({"list": [{"a": 1}, {"a": 2, "d": 5}], "grid": {"b": [1, 2], "c": [3, 4]}})
    assert points(both) == [
        item | {"b": b, "c": c} for item in ({"a": 1}, {"a": 2, "d": 5}) for b in (1, 2) for c in (3, 4)
    ]  # fmt: skip
    assert points(GroupSettings()) == [{}]


def test_a_stage_with_a_seed_of_its_own_serves_all_seeds_and_stages_follow_each_other() -> None:
    stages = {"second": {"from": "first"}, "first": {"seeds": [7]}}
    drawn = expand(experiment("groups: {g: {from: second}}", stages=stages, seeds=[0, 1]))
    assert [(d.run.name, d.run.seed, d.candidates) for d in drawn] == [
        ("first/0000", 7, ()), ("second/0000", 0, ("first/0000",)), ("second/0001", 1, ("first/0000",)),
        ("g/0000", 0, ("second/0000",)), ("g/0001", 1, ("second/0001",)),
    ]  # fmt: skip


def test_runs_keep_their_numbers_when_the_experiment_grows() -> None:
    """With a weight in front and a seed in front; what is gone gives its number to nobody."""
    before = expand(experiment())
    known = Plan("x", groups(experiment()), tuple(d.run for d in before))
    content = yaml.safe_load(TWO_STAGES)
    content["groups"]["energy"]["grid"] = {WEIGHT: [1e-5, 1e-3]}
    after = expand(experiment(yaml.safe_dump(content), seeds=[2, 0, 1]), known)
    assert [(d.run.name, d.run.seed, d.run.settings[WEIGHT]) for d in after if d.run.group == "energy"] == [
        ("energy/0004", 2, 1e-5), ("energy/0005", 0, 1e-5), ("energy/0006", 1, 1e-5),
        ("energy/0007", 2, 1e-3), ("energy/0002", 0, 1e-3), ("energy/0003", 1, 1e-3),
    ]  # fmt: skip
    assert expand(experiment(), known) == before


def test_selecting_takes_what_is_started_from() -> None:
    drawn = expand(experiment("groups: {g: {from: s}, h: {}}", stages={"s": {}, "t": {}}, seeds=[0, 1]))
    assert [d.run.name for d in select(drawn, only=["g"], seeds=[1])] == ["s/0001", "g/0001"]
    assert [d.run.name for d in select(drawn, only=["h", "t"])] == ["t/0000", "t/0001", "h/0000", "h/0001"]
    assert select(drawn) == drawn
    with pytest.raises(ValueError, match="--only k: the experiment has g, h, s, t"):
        select(drawn, only=["k"])
    with pytest.raises(ValueError, match="--seeds 5: the experiment has 0, 1"):
        select(drawn, seeds=[0, 5])


def test_files_extend_each_other_and_the_command_line_has_the_last_word(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE))
    (tmp_path / "whole.yaml").write_text(TWO_STAGES.replace("BASE", "base.yaml").replace("seeds", "name: Whole\nseeds"))
    (tmp_path / "deep/small.yaml").write_text(
        "extends: ../whole.yaml\nset: {data.image_size: 64}\nseeds: [3]\n"
        "stages: {baseline: {grid: {optimizer.lr: null}, set: {trainer.epochs: 1}}}\n"
    )
    found = load_experiment(tmp_path / "deep/small.yaml", ["trainer.epochs=5", "data.root=/elsewhere"])
    configs = parse_configs(expand(found))
    assert list(configs) == ["baseline/0000", "energy/0000", "energy/0001"]
    assert {(c.seed, c.data.image_size, c.trainer.epochs, str(c.data.root)) for c in configs.values()} == {
        (3, 64, 5, "/elsewhere")
    }  # fmt: skip
    assert found.name == "Whole"
    (tmp_path / "again.yaml").write_text(dump_experiment(found))
    assert load_experiment(tmp_path / "again.yaml") == found
    with pytest.raises(
        ValueError, match=r"--set objective.localization.weight: groups.energy of .*small.yaml varies it"
    ):
        load_experiment(tmp_path / "deep/small.yaml", ["objective.localization.weight=1"])
    (tmp_path / "loop.yaml").write_text("extends: loop.yaml\n")
    with pytest.raises(ValueError, match=r"loop.yaml extends itself"):
        load_experiment(tmp_path / "loop.yaml")
