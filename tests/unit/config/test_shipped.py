"""Every shipped config loads and is built, and holds what was published."""

from __future__ import annotations

from pathlib import Path

import pytest

from guidance.assembly import build_classifier, build_objective, build_optimizer, parameter_groups
from guidance.config import check_processes, load_config
from guidance.data import Source
from tests.support.configs import CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_is_built(path: Path) -> None:
    config = load_config(path)
    classes = tuple("abc")
    config = config.model_copy(update={"model": config.model.model_copy(update={"weights": "none"})})
    model = build_classifier(config, 3, pretrained=True)
    source = Source("x", "train", classes, (), True)
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
    names = {path.stem for path in CONFIGS}
    for loss in ("energy", "l1", "ppce", "rrr", "energy_star"):
        for depth in ("input", "final"):
            assert {f"voc_resnet50_{loss}_{depth}", f"voc_resnet50_gradcam_{loss}_{depth}"} <= names
    assert {"demo", "waterbirds100_resnet18_energy", "voc_small_resnet18_energy"} <= names


def test_aim_configs_hold_the_published_values() -> None:
    """Tables 4 and 5 of the paper, and the ablations that it makes."""
    folder = CONFIGS[0].parent
    for path in folder.glob("*_aim_*.yaml"):
        if "small" in path.stem:
            continue
        config = load_config(path)
        assert (config.trainer.batch_size, config.trainer.epochs, config.schedule.name) == (512, 200, "cosine")
        optimizer, data = config.optimizer, config.data
        assert (optimizer.name, optimizer.lr, optimizer.weight_decay) == ("adamw", 0.01, 0.001)
        assert optimizer.backbone_lr == (7e-6 if config.model.name == "convnext_tiny" else 1e-3)
        assert (data.augmentation, data.randaugment_ops, data.randaugment_magnitude) == ("randaugment", 3, 9)
        assert (config.objective.label_smoothing, config.aim.dropout, config.aim.area_weight) == (0.05, 0.3, 6.0)
        assert config.model.drop_path == (0.3 if config.model.name == "convnext_tiny" else None)
        assert config.aim.threshold is None or (config.aim.threshold, config.aim.anneal_epochs) == (0.25, 100)
    changed = {
        "one_estimator": lambda c: c.aim.estimators == "one", "edges": lambda c: c.aim.initialization == "edges",
        "no_auxiliary": lambda c: not c.aim.auxiliary, "no_annealing": lambda c: c.aim.threshold is None,
        "shifted": lambda c: c.evaluation.crop == "shifted",
        "bottom_up_123": lambda c: (c.aim.masking, c.aim.stop_stage) == ("bottom_up", 1),
        "bottom_up_23": lambda c: (c.aim.masking, c.aim.stop_stage) == ("bottom_up", 2),
        "bottom_up_3": lambda c: (c.aim.masking, c.aim.stop_stage) == ("bottom_up", 3),
    }  # fmt: skip
    for name, holds in changed.items():
        assert holds(load_config(folder / f"waterbirds95_aim_{name}.yaml")), name
