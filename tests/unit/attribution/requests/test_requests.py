"""What may be asked for: methods by name or as a function, and every mistake by its name."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from guidance.attribution import ATTRIBUTIONS, Request
from guidance.attribution.gradient import state
from tests.support.explaining import attribute, images, pairs
from tests.support.nets import tiny


def test_mistakes_are_named() -> None:
    model, x = tiny(), images()
    out, which = model(x), pairs((0, 1))
    explain = partial(attribute, create_graph=False)
    with pytest.raises(ValueError, match=r"unknown attribution 'gradcamm'.*'gradcam'"):
        explain("gradcamm", model, out, "final", *which)
    with pytest.raises(ValueError, match=r"unknown depth 'finale'.*'final'"):
        explain("ixg", model, out, "finale", *which)
    with pytest.raises(ValueError, match=r"images\.requires_grad_\(\)"):
        explain("ixg", model, model(x.detach()), "input", *which)
    with torch.no_grad():
        frozen = model(x)
    with pytest.raises(ValueError, match=r"no_grad"):
        explain("ixg", model, frozen, "mid1", *which)
    with pytest.raises(ValueError, match=r"shapes \[2\] and \[1, 3\]"):
        explain("ixg", model, out, "mid1", torch.tensor([0, 1]), torch.tensor([0]))
    with pytest.raises(ValueError, match="at least 1 to explain 1 pairs, not 0"):
        explain("ixg", model, out, "mid1", *which, rounds=0)
    with pytest.raises(ValueError, match="steps of intgrad"):
        explain(ATTRIBUTIONS["intgrad"].bind({"steps": 0}), model, out, "mid1", *which)


def test_a_function_is_a_method() -> None:
    def share(model: object, request: Request) -> Tensor:
        assert request.rounds == 2
        return state(request).sum(1)

    model = tiny()
    out = model(images())
    result = attribute(share, model, out, "mid1", *pairs((0, 1), (0, 2)), create_graph=True)
    torch.testing.assert_close(result, out.features["mid1"][[0, 0]].sum(1))
