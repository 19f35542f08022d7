"""Configs for tools/prepare_data.py, and what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.support.data.layouts import write_text
from tools import prepare_data


def write_config(tmp_path: Path, **data: Any) -> Path:
    content = {
        "data": {"name": "demo", "root": str(tmp_path / "demo"), "num_train": 40, "num_val": 12, "num_test": 12,
                 "image_size": 32, "num_workers": 0, **data},
        "model": {"name": "resnet18"},
    }  # fmt: skip
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run(*arguments: object) -> int:
    return prepare_data.main([str(argument) for argument in arguments])


def custom_config(tmp_path: Path, name: str = "custom", **data: Any) -> Path:
    data = {"name": name, "root": str(tmp_path / "set"), "cache": str(tmp_path / "cache"), "image_size": 32} | data
    return write_text(tmp_path / "custom.yaml", yaml.safe_dump({"data": data, "model": {"name": "resnet18"}}))


def cells(out: str, name: str) -> list[str]:
    """The row `name` of verify's table: train, val, and test where it is there."""
    (line,) = [line for line in out.splitlines() if line.startswith(f"{name}  ")]
    return line.removeprefix(name).split()
