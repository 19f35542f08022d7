"""Building a B-cos net: the bias of its logits and the channels of its images."""

from __future__ import annotations

import math

import pytest

from guidance.models import BACKBONES, build_model
from guidance.models.bcos.modules import LogitBias
from tests.support.small_nets import BCOS, PUBLISHED_BIAS, build


def test_logit_bias_is_the_published_one_or_that_of_the_number_of_classes() -> None:
    assert LogitBias().bias == PUBLISHED_BIAS

    def bias(**options: str) -> float:
        return build_model("bcos_resnet18", num_classes=5, **options).net.get_submodule("logit_bias").bias

    assert bias() == PUBLISHED_BIAS
    assert bias(logit_bias="classes") == -math.log(4)
    with pytest.raises(ValueError, match="only B-cos nets"):
        build_model("resnet18", num_classes=5, logit_bias="classes")
    with pytest.raises(ValueError, match="at least 2 classes"):
        build_model("bcos_resnet18", num_classes=1, logit_bias="classes")
    with pytest.raises(ValueError, match="known: classes, published"):
        build_model("bcos_resnet18", num_classes=5, logit_bias="none")


@pytest.mark.parametrize("name", BCOS)
def test_three_channels_are_a_clear_error(name: str) -> None:
    model, images = build(name)
    assert BACKBONES["bcos_" + name.removeprefix("bcos_")].encoding == "inverse" if name in BACKBONES else True
    for run in (model, lambda x: model.upper(x, "input"), lambda x: model.explainable(x, "final")):
        with pytest.raises(ValueError, match=r"takes images of 6 channels, not 3.*\(x, 1 - x\)"):
            run(images[:, :3])
