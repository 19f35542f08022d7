"""The JSON schema, the shipped configs under it, and the config reference that is made from it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from guidance.attribution import ATTRIBUTIONS
from guidance.config import config_type, dump_schema, free_on_resume, parse_config
from guidance.config.data import DATA_SECTIONS
from guidance.config.mistakes import sections_of
from guidance.config.modes import MODES
from guidance.config.reference import reference
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models import BACKBONES
from tests.support.configs import CONFIGS

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads(dump_schema())
VALIDATOR = Draft202012Validator(SCHEMA)


def mistakes(content: object) -> list[str]:
    """Where, as dotted keys; texts stand for the numbers of stages, as in JSON."""
    return [".".join(map(str, error.path)) for error in VALIDATOR.iter_errors(json.loads(json.dumps(content)))]


def test_the_file_is_up_to_date() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    text = (ROOT / "configs/schema.json").read_text()
    assert text == dump_schema(), "python launch/train.py --schema > configs/schema.json"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_shipped_configs_name_the_schema_and_fit_it(path: Path) -> None:
    text = path.read_text()
    assert text.splitlines()[1] == "# yaml-language-server: $schema=schema.json"
    assert mistakes(yaml.safe_load(text)) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"optimizer": {"lr": 0}}, "optimizer.lr"),
        ({"optimizer": {"learning_rate": 1e-3}}, "optimizer"),
        ({"model": {"nmae": "resnet50"}}, "model"),
        ({"objective": {"attribution": {"method": "ixgg"}}}, "objective.attribution.method"),
        ({"aim": {"threshold": 2.0}}, "aim.threshold"),
        ({"data": {"name": "demo", "root": "x", "year": "2014"}}, "data"),
        ({"data": {"name": "dome", "root": "x"}}, "data"),
    ],
)
def test_mistakes_do_not_fit(change: dict[str, object], where: str) -> None:
    assert mistakes({"data": {"name": "demo", "root": "x"}} | change) == [where]


def test_what_a_config_may_say_fits() -> None:
    """Stages by number, a lens that is switched off, and null for what the run has."""
    evaluated = {"attribution": {"lens": "none", "depth": "blocks.3"}}
    content = {
        "data": {"name": "coco", "root": "x", "year": "2017"}, "aim": {"threshold": {2: 0.25, 3: 0.35}},
        "evaluation": evaluated, "trainer": {"early_stop": {"metric": "accuracy_class/0"}},
    }  # fmt: skip
    assert mistakes(content) == []


def undescribed(section: type[BaseModel], place: str) -> list[str]:
    fields = section.model_fields.items()
    found = [f"{place}.{name}" for name, field in fields if not field.description]
    return found + [
        p for k, f in fields for inner in sections_of(f.annotation) for p in undescribed(inner, f"{place}.{k}")
    ]


def test_every_setting_is_described() -> None:
    found = [place for name, section in DATA_SECTIONS.items() for place in undescribed(section, f"data({name})")]
    for name, field in config_type().model_fields.items():
        for section in sections_of(field.annotation) if name != "data" else ():
            found += undescribed(section, name)
    assert found == []


@pytest.fixture(scope="module")
def sections() -> dict[str, str]:
    """Heading -> what stands below it in the reference."""
    return {part.split("\n")[0].strip("`"): part for part in reference().split("## ")[1:]}


def test_the_reference_has_every_setting_and_every_name(sections: dict[str, str]) -> None:
    flat = {"data": DATA_SECTIONS["voc"]}
    for name, field in config_type().model_fields.items():
        flat |= dict.fromkeys([name], *sections_of(field.annotation)) if name not in ("seed", "imports", "data") else {}
    while flat:
        place, section = flat.popitem()
        for key, field in section.model_fields.items():
            own = "" if key in sections[place] else sections["data.name: voc"]
            assert f"| `{key}` |" in sections[place] + own, f"{place}.{key}"
            flat |= {f"{place}.{key}": inner for inner in sections_of(field.annotation)}
    for name, section in DATA_SECTIONS.items():
        own = sections["data"] + sections[f"data.name: {name}"]
        assert [key for key in section.model_fields if f"| `{key}` |" not in own] == []
    tables = {"model": BACKBONES, "objective": MODES, "objective.localization": LOCALIZATION_LOSSES,
              "objective.attribution": ATTRIBUTIONS, "data": DATA_SECTIONS}  # fmt: skip
    for place, table in tables.items():
        assert [name for name in table if f"`{name}`" not in sections[place]] == []


def test_the_reference_says_default_and_range(sections: dict[str, str]) -> None:
    lines = {line for part in sections.values() for line in part.splitlines()}
    assert "| `momentum` | `0.9` | sgd only. A number from 0 to 1. |" in lines
    assert (
        "| `lr` | `0.0001` | Learning rate, of the classifier alone where backbone_lr is set. A number above 0. |"
        in lines
    )
    assert (
        "| `lens` | `null` | Attribution Lens around the method: classes compete at each cell. null: none. |" in lines
    )


def test_the_reference_marks_what_a_resumed_run_may_change(sections: dict[str, str]) -> None:
    """Each setting that `free_on_resume` gives, and no other; those with an exception in a config where it does not hold."""
    free = free_on_resume(parse_config({"data": {"name": "demo", "root": "x"}}))
    common = {place: part for place, part in sections.items() if ": " not in place}
    for place, part in common.items():
        for key, rest in re.findall(r"^\| `(\w+)` \|(.*)", part, re.M):
            name = key if place == "Sections" else f"{place}.{key}"
            expected = any(name == known or name.startswith(f"{known}.") for known in free)
            assert ("May change on resume" in rest) == expected, name
    assert "unless schedule.name is cosine, or objective.mode is aim" in sections["trainer"]
    fixed = free_on_resume(parse_config({"data": {"name": "demo", "root": "x"}, "schedule": {"name": "cosine"}}))
    assert set(free) - set(fixed) == {"trainer.epochs"}
