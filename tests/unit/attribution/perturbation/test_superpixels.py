"""What is switched off, and what takes its place."""

from __future__ import annotations

import pytest
import torch

from guidance.attribution.perturbation.superpixels import mean_colour, superpixels

pytest.importorskip("skimage")


def test_superpixels_follow_colours_in_any_encoding() -> None:
    """Red above green above blue, in bands whose borders are no multiples of anything."""
    image = torch.zeros(3, 21, 24)
    image[0, :5], image[1, 5:13], image[2, 13:] = 1.0, 1.0, 1.0
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    labels = superpixels((image - mean[:, None, None]) / std[:, None, None], segments=12, compactness=1.0)
    assert labels.shape == (21, 24)
    assert sorted(set(labels.flatten().tolist())) == list(range(int(labels.max()) + 1))
    bands = [set(labels[rows].flatten().tolist()) for rows in (slice(0, 5), slice(5, 13), slice(13, 21))]
    assert not bands[0] & bands[1]
    assert not bands[1] & bands[2]
    assert torch.equal(superpixels(torch.cat((image, 1 - image)), segments=12, compactness=1.0), labels)
    grey = superpixels(image[:2] * 7 - 3, segments=12, compactness=1.0)  # any other input is compared as it is
    assert not set(grey[:5].flatten().tolist()) & set(grey[5:13].flatten().tolist())


def test_what_is_switched_off_has_the_mean_colour_in_any_encoding() -> None:
    mean = torch.tensor([0.485, 0.456, 0.406])
    assert mean_colour(torch.randn(3, 2, 2)).abs().max() < 1e-7
    torch.testing.assert_close(mean_colour(torch.randn(6, 2, 2)).flatten(), torch.cat((mean, 1 - mean)))
    assert not mean_colour(torch.randn(2, 2, 2)).any()
