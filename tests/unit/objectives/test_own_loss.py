"""A loss that is added by a row, as CONTRIBUTING.md shows: its options; images that know only where evidence must not lie."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from guidance.assembly.objectives import build_localization
from guidance.assembly.sets import build_training_dataset
from guidance.config import Config, override_config, parse_config
from guidance.data import collate
from guidance.losses import LOCALIZATION_LOSSES, Loss
from tests.support import objectives as make
from tests.support.data.pictures import make_source
from tests.support.runs import build_tiny

PAGE = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text()


def config(**localization: Any) -> Config:
    return parse_config({
        "data": {"name": "voc", "root": "x", "image_size": 32}, "model": {"name": "resnet18"},
        "objective": {"localization": {"weight": 0.5, **localization}},
    })  # fmt: skip


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    """What a test adds to the table does not stay there."""
    before = dict(LOCALIZATION_LOSSES)
    yield
    LOCALIZATION_LOSSES.clear()
    LOCALIZATION_LOSSES.update(before)


def test_the_loss_of_the_readme_trains_where_evidence_must_not_lie(tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```python\n([^`]*LOCALIZATION_LOSSES\[[^`]*)```", PAGE)
    exec(compile(snippet, "CONTRIBUTING.md", "exec"), {})
    source = make_source(tmp_path, [[(0, (0, 0, 10, 20))], [(0, (0, 0, 10, 20))]])
    never = [
        r._replace(never_boxes=((20, 0, 30, 20),), never_classes=(1,)) for r in source.records
    ]  # no box of class 1
    source = dataclasses.replace(source, records=tuple(never))
    settings = config(loss="outside")
    dataset, annotated = build_training_dataset(settings, source)
    assert annotated == [0, 1]
    batch = collate([dataset[0, 0], dataset[0, 1]])
    assert len(batch.regions.image) == 2
    objective = make.guided(
        build_tiny(len(source.classes)), localization=build_localization(settings), weight=0.5, depth="mid1"
    )
    step = objective(batch, objective.counts(batch))
    step.loss.backward()
    assert float(step.terms["localization"]) > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.model.parameters())


def powered(attribution: Tensor, mask: Tensor, *, power: float, alpha: float) -> Tensor:
    return attribution.abs().pow(power).mean((1, 2)) * alpha


def test_options_come_from_the_config() -> None:
    """One that is a setting of its own from there, others from `options`, or they are the defaults of the row."""
    LOCALIZATION_LOSSES["mine"] = Loss(powered, looks="both", options={"power": 2.0, "alpha": 0.1}, settings=("alpha",))
    maps, mask = torch.full((1, 2, 2), 3.0), torch.ones(1, 2, 2, dtype=torch.bool)
    assert build_localization(config(loss="mine"))(maps, mask).item() == pytest.approx(9 * 0.5)
    set_ = override_config(
        config(loss="mine"), ["objective.localization.options.power=3", "objective.localization.alpha=1"]
    )
    assert build_localization(set_)(maps, mask).item() == pytest.approx(27)
    assert parse_config(set_.model_dump(mode="json")) == set_
    with pytest.raises(ValueError, match=r"localization.options: mine has no option 'pwer'.*Did you mean 'power'"):
        config(loss="mine", options={"pwer": 1})
    with pytest.raises(ValueError, match=r"localization.options: set alpha as objective.localization.alpha instead"):
        config(loss="mine", options={"alpha": 1})


def test_a_config_without_options_is_stored_as_before() -> None:
    assert list(config().model_dump()["objective"]["localization"]) == ["loss", "weight", "alpha", "area"]
