"""Masks that collapse are told of."""

from __future__ import annotations

from guidance.models import Wrapping, aim, build_model
from tests.support import objectives as make
from tests.support.nets import tiny_aim


def test_masks_that_collapse_are_told_of_once() -> None:
    model = build_model("resnet18", num_classes=2, wrapping=Wrapping(lambda plain: aim.build_aim(
        plain, (64, 128, 256, 512), first_stage=1, stop_stage=3, num_classes=2), aim.LAYOUT))  # fmt: skip
    assert isinstance(model, aim.MaskedClassifier)
    objective = make.masking(model)
    values = {"train/active/stage3": 0.25, "train/active/stage4": 0.021, "val/sparsity/stage3": 0.2, "val/f1": 0.0,
              "val/sparsity": 0.01}  # fmt: skip
    assert objective.advise(values) == []
    (told,) = objective.advise(values | {"train/active/stage4": 0.012})
    assert told.startswith(
        "the masks of stage4 collapse: 1.2 % of their cells are active in training. Raise aim.threshold"
    )
    (told,) = objective.advise(values | {"train/active/stage4": 0.0, "val/sparsity/stage3": 0.0})
    assert told.startswith("the masks of stage3 collapse: 0.0 % of their cells are active in evaluation")
    assert objective.advise(values | {"train/active/stage4": 0.0, "val/sparsity/stage3": 0.0}) == []
    wanted = make.masking(model, threshold=0.015)
    assert wanted.advise(values | {"train/active/stage4": 0.016}) == []  # what was asked for
    assert len(wanted.advise(values | {"train/active/stage4": 0.007})) == 1
    # Each stage has its own threshold to be measured by.
    stages = make.masking(model, threshold={"stage3": 0.25, "stage4": 0.015})
    assert stages.advise(values | {"train/active/stage4": 0.016}) == []
    (told,) = stages.advise(values | {"train/active/stage3": 0.016, "train/active/stage4": 0.016})
    assert told.startswith("the masks of stage3 collapse")


def test_an_enlarged_mask_is_measured_by_the_threshold_of_its_origin() -> None:
    objective = make.masking(tiny_aim(estimators="one"), threshold={"stage3": 0.015})
    assert objective.advise({"val/sparsity/stage1": 0.016}) == []
    assert len(objective.advise({"val/sparsity/stage1": 0.007})) == 1
