"""What the shipped configs call published is what docs/papers.yaml says, which is written from the papers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from guidance.config import load_config
from tests.support.configs import CONFIGS
from tests.unit.config.papers import CHOICES, FAMILIES, KEYS, PAPERS, PROTOCOLS, ROOT, departures, flat, wanted

FIRST = re.compile(r"# (Published|Example): (.+)")
PUBLISHED_SETTING = re.compile(r"[Tt]he published setting is (\w+\.yaml)")


@cache
def first_line(path: Path) -> tuple[str, str]:
    found = FIRST.fullmatch(path.read_text().split("\n", 1)[0])
    assert found is not None, f"{path.name} says neither what row of a paper it is nor that it is an example"
    return found[1], found[2]


def published_ids(path: Path) -> list[str]:
    kind, text = first_line(path)
    return text.split(", ") if kind == "Published" else []


@cache
def resolved(path: Path, *changes: str) -> Mapping[str, Any]:
    """Every setting of a config, by its dotted name."""
    return flat(load_config(path, list(changes)).model_dump(mode="json"))


CLAIMS = [(path, name) for path in CONFIGS for name in published_ids(path)]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_the_first_line_says_what_a_config_is(path: Path) -> None:
    kind, _ = first_line(path)
    text = path.read_text()
    assert (kind == "Published") == bool(published_ids(path))
    if kind == "Published":
        header = text[: text.index("\ndata:")]
        assert header.endswith("\n# All that the papers leave open, with what was chosen: docs/papers.yaml.")
    else:  # an example may name the published config beside it, and says "published" of nothing else
        named = PUBLISHED_SETTING.findall(text)
        assert len(named) == text.lower().count("published")
        assert all(published_ids(path.with_name(name)) for name in named)
    for name in published_ids(path):
        assert name in PROTOCOLS, f"{path.name}: docs/papers.yaml has no protocol {name}"


@pytest.mark.parametrize("name", FAMILIES)
def test_protocols_and_configs_name_each_other(name: str) -> None:
    protocol = FAMILIES[name]
    assert set(protocol) <= KEYS
    assert protocol["source"]
    own = {ident: row for ident, row in PROTOCOLS.items() if row["family"] == name}
    assert own
    for row in own.values():
        assert row["values"]
        assert not set(row["values"]) & set(row["not_given"]), "given or not?"
        assert row.get("from") is None or row["from"] in PROTOCOLS
        for value in wanted(row).values():
            assert not isinstance(value, dict) or (len(value) == 1 and set(value) <= set(CHOICES))
    assert sorted(protocol["configs"]) == sorted({path.stem for path, claimed in CLAIMS if claimed in own})


@pytest.mark.parametrize(("path", "name"), CLAIMS, ids=lambda v: v.stem if isinstance(v, Path) else v)
def test_published_values(path: Path, name: str) -> None:
    assert departures(PROTOCOLS[name], resolved(path)) == []


@pytest.mark.parametrize(("path", "name"), CLAIMS, ids=lambda v: v.stem if isinstance(v, Path) else v)
def test_any_other_value_is_found(path: Path, name: str) -> None:
    settings = resolved(path)
    for key in PROTOCOLS[name]["values"]:
        assert departures(PROTOCOLS[name], {**settings, key: "another"}) == [key]
        assert departures(PROTOCOLS[name], {k: v for k, v in settings.items() if k != key}) == [key]


@pytest.mark.parametrize(
    ("stem", "change", "key"),
    [
        ("voc_bcos_energy_star", "optimizer.lr=1e-3", "optimizer.lr"),
        ("voc_bcos_l1", "objective.localization.weight=5e-4", "objective.localization.weight"),
        ("waterbirds100_bcos_energy", "data.validation=official", "data.validation"),
        ("voc_bcos_energy", "evaluation.iou_threshold=0.5", "evaluation.iou_threshold"),
        ("cub_aim_convnext_tiny", "aim.threshold=null", "aim.threshold"),
        ("waterbirds95_aim_convnext_tiny", "data.augmentation=randaugment", "data.augmentation"),
    ],
)
def test_a_changed_config_is_found(stem: str, change: str, key: str) -> None:
    path = next(path for path in CONFIGS if path.stem == stem)
    for name in published_ids(path):
        assert departures(PROTOCOLS[name], resolved(path, change)) == [key]


TABLES = [
    (paper, name, table) for paper, tables in PAPERS["results"].items() for name, table in tables.items() if "columns" in table
]  # fmt: skip


@pytest.mark.parametrize(("paper", "name", "table"), TABLES, ids=[f"{paper}-{name}" for paper, name, _ in TABLES])
def test_published_rows_have_a_number_for_each_column(paper: str, name: str, table: dict[str, Any]) -> None:
    rows = flat({row: cells for row, cells in table.items() if row != "columns"})
    assert rows
    for row, cells in rows.items():
        assert len(cells) == len(table["columns"]), f"{paper} {name} {row}"
        for cell in cells:
            value, deviation = cell if isinstance(cell, list) else (cell, 0.0)
            assert value is None or (0 <= value <= 100 and deviation >= 0)


# ----------------------------------------------------------------------------------------------------------------------
# docs/papers/
# ----------------------------------------------------------------------------------------------------------------------
PAGES = sorted((ROOT / "docs/papers").glob("*.md"))
FIDELITY = "\n".join(page.read_text() for page in PAGES)
CODE = re.compile(r"`([^`\n]+)`")
PATHS = re.compile(r"(?:configs|docs|guidance|launch|tests|tools)/[\w./-]+|README\.md")


def test_what_the_pages_of_the_papers_name_exists() -> None:
    """Every path in its code marks, every config, every `path::name` of a test, and every `path: name` of a function."""
    missing = []
    for code in CODE.findall(FIDELITY):
        path, _, name = code.partition("::")
        if not PATHS.fullmatch(path):
            continue
        file = ROOT / path
        if not file.exists():
            missing.append(path)
        elif name and not re.search(
            rf"^\s*(?:def|class) {re.escape(name)}\b|^{re.escape(name)}\b", file.read_text(), re.M
        ):
            missing.append(code)
    assert missing == []


def test_the_pages_name_every_published_config() -> None:
    assert [path.name for path in CONFIGS if published_ids(path) and f"configs/{path.name}" not in FIDELITY] == []
