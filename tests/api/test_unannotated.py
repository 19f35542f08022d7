"""Where evidence lies without annotation, in exact numbers."""

from __future__ import annotations

import pytest
import torch

from guidance.unannotated.places import border_mask, corner_mask
from guidance.unannotated.similar import evidence_shares, group_similar


def test_the_border_and_the_corners_of_a_4x6_map() -> None:
    border = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1]]).bool()
    assert border_mask(4, 6).equal(border)  # a tenth of four pixels is less than one: one it is
    corner = torch.tensor([[1, 1, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 1, 1]]).bool()
    assert corner_mask(4, 6, 0.3).equal(corner)
    # Sides of a tenth leave 0.8 x 0.8; four corners of a quarter cover a quarter.
    assert border_mask(40, 40).float().mean() == pytest.approx(0.36)
    assert corner_mask(40, 40).float().mean() == pytest.approx(0.25)


def test_shares_of_evidence_count_what_is_positive_and_add_up_to_one() -> None:
    attribution = torch.zeros(3, 4, 4)
    attribution[0, 0, 0], attribution[0, 3, 3], attribution[0, 0, 3] = 3.0, 1.0, -7.0
    attribution[1] = -1.0
    attribution[2] = 5.0
    shares = evidence_shares(attribution, cells=2)
    assert shares.tolist() == [[[0.75, 0.0], [0.0, 0.25]], [[0.0, 0.0], [0.0, 0.0]], [[0.25, 0.25], [0.25, 0.25]]]


def test_groups_are_of_maps_that_lie_alike_the_largest_first() -> None:
    left, right, empty = torch.zeros(3, 2, 2)
    left[0, 0], right[1, 1] = 1.0, 1.0
    near = torch.tensor([[0.9, 0.1], [0.0, 0.0]])
    shares = torch.stack([right, left, empty, near, left])
    assert group_similar(shares, 2).tolist() == [1, 0, 2, 0, 0]
    assert group_similar(shares, 1).tolist() == [0, 0, 1, 0, 0]
    assert group_similar(shares[:1], 3).tolist() == [0]
    assert group_similar(shares[2:3], 3).tolist() == [0]
    with pytest.raises(ValueError, match="at least one group, not 0"):
        group_similar(shares, 0)
