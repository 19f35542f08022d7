"""The JSON schema of the files of experiments, and the shipped ones under it."""

from __future__ import annotations

import json
import os
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from guidance.config import dump_schema
from guidance.experiments.definition.json_schema import dump_experiment_schema
from guidance.experiments.definition.reading import parse_experiment
from guidance.experiments.definition.reference import experiment_reference
from guidance.experiments.definition.schema import EvaluatedSettings, Experiment, StageSettings
from launch import sweep

ROOT = Path(__file__).parents[3] / "configs/experiments"
EXPERIMENTS = sorted(ROOT.rglob("*.yaml"))
PLACES = {"file:///schema.json": dump_schema(), "file:///experiments/schema.json": dump_experiment_schema()}
REGISTRY = Registry().with_resources(
    (place, Resource.from_contents(json.loads(text))) for place, text in PLACES.items()
)
VALIDATOR = Draft202012Validator({"$ref": "file:///experiments/schema.json"}, registry=REGISTRY)


def mistakes(content: object) -> list[str]:
    return [".".join(map(str, error.path)) for error in VALIDATOR.iter_errors(json.loads(json.dumps(content)))]


def test_the_file_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    Draft202012Validator.check_schema(json.loads(dump_experiment_schema()))
    assert sweep.main(["--schema"]) == 0
    written = (ROOT / "schema.json").read_text()
    assert written == capsys.readouterr().out, "python launch/sweep.py --schema > configs/experiments/schema.json"


def test_shipped_experiments_name_the_schema_and_fit_it() -> None:
    for path in EXPERIMENTS:
        head = list(takewhile(lambda line: line.startswith("#"), path.read_text().splitlines()))
        assert head[-1] == f"# yaml-language-server: $schema={os.path.relpath(ROOT / 'schema.json', path.parent)}", path
        assert mistakes(yaml.safe_load(path.read_text())) == [], path


GROUP = {"grid": {"optimizer.lr": [1e-3, 1e-4]}}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"keep": "some"}, "keep"),
        ({"sede": [1]}, ""),
        ({"set": {"optimizer.learning_rate": 1e-3}}, "set"),
        ({"set": {"optimizer.lr": 0}}, "set.optimizer.lr"),
        ({"set": {"data.image_size": "large"}}, "set.data.image_size"),
        ({"groups": {"a": {"grid": {"optimizer.lr": 1e-3}}}}, "groups.a"),
        ({"groups": {"a": GROUP | {"form": "start"}}}, "groups.a"),
        ({"evaluate": {"set": {"evaluation.batch_size": 0}}}, "evaluate"),
    ],
)
def test_mistakes_do_not_fit(change: dict[str, Any], where: str) -> None:
    assert mistakes({"base": "../demo.yaml", "groups": {"a": GROUP}} | change) == [where]


def test_a_base_or_an_extended_file_is_asked_for() -> None:
    assert mistakes({"groups": {"a": GROUP}}) == [""]
    assert mistakes({"extends": "other.yaml", "groups": {"a": None}}) == []


def test_what_an_experiment_may_say_fits() -> None:
    """A base with its content, options of rows, sections as a whole, stages by number, one evaluation or several."""
    content = {
        "base": {"data": {"name": "demo", "root": "x"}},
        "set": {"objective.localization.options.margin": 0.5, "aim.threshold": {2: 0.25, 3: 0.35}, "trainer.early_stop": None},
        "stages": {"start": {"best": "f1"}},
        "groups": {"a": {"from": "start", "list": [{"data.root": "y"}, {"model.name": "torchvision/resnet18"}]}},
        "evaluate": [{"splits": ["val"]}, {"set": {"evaluation.attribution.method": "gradcam"}}],
    }  # fmt: skip
    assert mistakes(content) == []
    assert mistakes(content | {"evaluate": content["evaluate"][0]}) == []
    parse_experiment(content)


def test_the_reference_has_every_key_with_its_meaning() -> None:
    shown = [part.splitlines() for part in experiment_reference().split("## ")[1:]]
    for rows, section in zip(shown, (Experiment, StageSettings, EvaluatedSettings), strict=True):
        assert [name for name, field in section.model_fields.items() if not field.description] == []
        keys = {f"| `{field.alias or name}` " for name, field in section.model_fields.items()}
        assert keys - {row[: row.index("` |") + 2] for row in rows if row.startswith("| `")} == set()
    assert (
        "| `grid` | `{}` | Settings with their values: all combinations are run, each with every item of `list`. |"
        in shown[1]
    )
