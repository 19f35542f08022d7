"""Every shipped config loads and is built; test_published.py compares them with the papers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from guidance.assembly import build_classifier, build_objective, build_optimizer, parameter_groups
from guidance.config import check_processes, load_config
from guidance.data import Source
from tests.support.configs import CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_is_built(path: Path) -> None:
    if "name: timm/" in path.read_text():
        pytest.importorskip("timm", reason="its net is one of timm, an extra that is not installed")
    config = load_config(path)
    classes = tuple("abc")
    config = config.model_copy(update={"model": config.model.model_copy(update={"weights": "none"})})
    source = Source("x", "train", classes, (), True)
    with torch.device("meta"):  # nobody asks for the values of hundreds of millions of weights
        model = build_classifier(config, 3, pretrained=True)
        if config.objective.class_weights == "balanced":
            config = load_config(path, ["objective.class_weights=none"])
        objective = build_objective(config, model, source)
    terms = {term.name for term in objective.terms}
    assert ("localization" in terms) == (config.objective.localization.weight > 0)
    assert ("auxiliary" in terms) == (config.objective.mode == "aim")
    optimizer, _ = build_optimizer(config, parameter_groups(config, model), 10)
    updated = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(updated) == sorted(id(p) for p in objective.parameters())
    assert config.evaluated_attribution.depth in model.depths
    check_processes(config, 1)


def test_shipped_names() -> None:
    """What the README and the experiments start with."""
    names = {path.stem for path in CONFIGS}
    assert {"voc_resnet50_baseline", "voc_resnet50_energy_input", "coco2014_resnet50_baseline"} <= names
    assert {"demo", "waterbirds100_resnet18_energy", "voc_small_resnet18_energy"} <= names
