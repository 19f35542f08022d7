"""Configs as files: the resolved one reads back, and what is no YAML is one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from guidance.config import dump_config, load_config, parse_config
from tests.support.configs import CONFIGS, DEMO


def test_resolved_config_reads_back(tmp_path: Path) -> None:
    config = load_config(CONFIGS[0], ["optimizer.lr=3e-5", "seed=7"])
    assert (config.optimizer.lr, config.seed) == (3e-5, 7)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml") == config
    assert ("aim" in config.model_dump()) == (config.objective.mode == "aim")
    cross_entropy = {"mode": "aim", "classification": "cross_entropy"}
    aim = parse_config(DEMO | {"objective": cross_entropy, "aim": {"threshold": 0.5}})
    assert aim.model_dump()["aim"]["threshold"] == 0.5
    assert "aim" not in parse_config(DEMO).model_dump(mode="json")


def test_files_and_overrides(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no config file .*demoo.yaml. Did you mean .*demo.yaml"):
        load_config(CONFIGS[0].parent / "demoo.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ValueError, match="must hold sections"):
        load_config(tmp_path / "list.yaml")
    (tmp_path / "bad.yaml").write_text("data: [\n")
    with pytest.raises(ValueError, match="not valid YAML"):
        load_config(tmp_path / "bad.yaml")
    (tmp_path / "demo.yaml").write_text("data: {name: demo}\n")
    config = load_config(tmp_path / "demo.yaml", ["trainer.early_stop.minimum=0.5", "pareto.metrics=[accuracy, epg]"])
    assert config.trainer.early_stop is not None
    assert config.trainer.early_stop.minimum == 0.5
    assert config.pareto.metrics == ["accuracy", "epg"]
    with pytest.raises(ValueError, match=r"--set takes a.b=value, not 'lr'"):
        load_config(tmp_path / "demo.yaml", ["lr"])
    for version in ("95", 95):
        text = f"data: {{name: waterbirds, root: x, version: {version!r}}}"
        (tmp_path / "w.yaml").write_text(text)
        assert load_config(tmp_path / "w.yaml").data.version == "95"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1000,
        "{a: " * 2000,
        "lr: !!timestamp x",
        "lr: " + "1" * 5000,
        "a: !!binary x",
        "a: !!float x",
        "\0",
        "? [1]\n: 2",
    ],
    ids=["lists", "maps", "timestamp", "digits", "binary", "float", "null", "key"],
)
def test_what_yaml_cannot_build_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"bad\.yaml is not valid YAML: ") as raised:
        load_config(tmp_path / "bad.yaml")
    assert len(str(raised.value)) < 1000
    assert ("it is nested too deep" in str(raised.value)) == text.startswith(("[", "{"))
    if text.startswith("lr"):  # what Python says of these names neither the place nor the value
        assert "a value does not fit its tag (such as !!timestamp), or is out of every range" in str(raised.value)
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ValueError, match=r"the config .*folder\.yaml is not a file$"):
        load_config(tmp_path / "folder.yaml")
    (tmp_path / "demo.yaml").write_text("data: {name: demo}\n")
    with pytest.raises(ValueError, match=r"--set .*: the value is not valid YAML: "):
        load_config(tmp_path / "demo.yaml", [f"optimizer.lr={text}"])
