"""The shipped configs, and what tests make their own from."""

from __future__ import annotations

from pathlib import Path

from guidance.data import Source

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
DEMO = {"data": {"name": "demo"}}
VOC = {"data": {"name": "voc", "root": "x"}}
SOURCE = Source("x", "train", tuple("abc"), (), True)
