"""Maps with and without the lens on one scale; what masking a concept leaves."""

from __future__ import annotations

import pytest
import torch

from guidance.benchmarks.concepts import concept_mask, without
from guidance.pictures.lens import MapRow, class_panel, concept_panel
from guidance.pictures.overlays import FOR


def test_rows_of_a_method_share_a_scale() -> None:
    """The colour of the refined map, a half of the other, lies between that of the other and of nothing."""
    image = torch.ones(3, 40, 40)
    full = torch.ones(1, 40, 40)
    rows = [MapRow("a", "A", full), MapRow("a", "A + lens", full / 2), MapRow("b", "B", full / 1000)]
    drawn = class_panel(image, ["dog"], rows, cell=1.0, dpi=100).astype(int)
    # centres of the cells of the class's column: 0.12 margin, 1 inch a cell, 0.12 gap; 0.30 title, 0.26 caption
    x = round(100 * (0.12 + 1 + 0.12 + 0.5))
    strong, half, other = (drawn[round(100 * (0.30 + r * 1.26 + 0.5)), x] for r in range(3))
    assert strong.tolist() == other.tolist()  # methods have scales of their own
    target = [int(FOR[i : i + 2], 16) for i in (1, 3, 5)]
    assert abs(strong - target).sum() < abs(half - target).sum() < abs(255 - torch.tensor(target).numpy()).sum()
    with pytest.raises(ValueError, match="row of 2 maps"):
        class_panel(image, ["dog", "cat"], rows)


def test_concepts() -> None:
    attribution = torch.zeros(30, 30)
    attribution[10, 10], attribution[20, 20] = 1.0, -5.0
    mask = concept_mask(attribution, share=0.5, sigma=2.0)
    assert mask[10, 10]
    assert not mask[20, 20]
    assert int(mask.sum()) == 21  # exp(-r^2 / 8) > 0.5: r^2 < 5.55
    assert not concept_mask(-attribution.abs()).any()
    with pytest.raises(ValueError, match="share"):
        concept_mask(attribution, share=1.0)
    image = torch.rand(3, 30, 30)
    left = without(image, mask, torch.tensor([0.1, 0.2, 0.3]))
    assert left[:, 10, 10].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert torch.equal(left[:, ~mask], image[:, ~mask])
    drawn = concept_panel(image, {"dog": mask}, {"dog": left}, {"": {"dog": 0.9}, "dog": {"dog": 0.2}}, dpi=50)
    assert drawn.shape[2] == 3
