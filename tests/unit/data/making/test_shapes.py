"""Segmentations in COCO's formats: what is decoded equals pycocotools, and nothing that would break it gets there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guidance.data.making.shapes import check_shape, code_size, decode_shapes

SQUARE = [[2, 3, 12, 3, 12, 11, 2, 11]]


def decoded(shape: Any, size: tuple[Any, Any] = (20, 30)) -> torch.Tensor:
    check_shape(shape, size)
    return decode_shapes([(code_size(size, shape), shape)])


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 10**6), share=st.floats(0, 1),
    scale=st.integers(1, 60),
)  # fmt: skip
def test_codes_are_decoded_as_pycocotools_does(height: int, width: int, seed: int, share: float, scale: int) -> None:
    """Compressed and as lists, with runs that need one to several characters."""
    from pycocotools import mask as codes

    small = np.random.default_rng(seed).random((height, width)) < share
    mask = np.asfortranarray(np.kron(small, np.ones((scale, 1))).astype(np.uint8))
    code = codes.encode(mask)
    size = list(mask.shape)
    found = decoded({"size": size, "counts": code["counts"].decode()}, tuple(mask.shape))
    assert np.array_equal(found.numpy(), mask.astype(bool))
    flat = mask.T.flatten()
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate(([0], ends, [flat.size]))).tolist()
    listed = {"size": size, "counts": [0, *runs] if flat[0] else runs}
    assert torch.equal(decoded(listed, (None, None)), found)


def test_polygons_are_joined_and_may_leave_the_image_a_little() -> None:
    found = decoded([*SQUARE, [-10, 15, 5, 15, 5, 25, -10, 25]])
    expected = torch.zeros(20, 30, dtype=torch.bool)
    expected[3:11, 2:12] = expected[15:, :5] = True
    assert torch.equal(found, expected)
    parts: list[Any] = [((20, 30), SQUARE), ((20, 30), {"size": [20, 30], "counts": [580, 20]})]
    assert int(decode_shapes(parts).sum()) == 80 + 20
    with pytest.raises(ValueError, match=r"different sizes: \[\(2, 2\), \(20, 30\)\]"):
        decode_shapes([parts[0], ((2, 2), {"size": [2, 2], "counts": [4]})])


THREE = "not at least three points"
SUM = "add up to"
NUMBERS = "not all whole numbers of at least 0"
SIZE = "run-length code of size"
FAR = "coordinates far outside of its image"
LONG = "polygon whose outline is .* pixels long, expected at most 1048576"
TEXT = "compressed run-length code"


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([[1, 2, 3, 4]], THREE),
        ([[1, 2, 3, 4, 5, 6, 7]], THREE),
        ([["a"] * 6], THREE),
        ([[True] * 6], THREE),
        ([[None] * 6], THREE),
        ([5], THREE),
        ([{}], THREE),
        ([*SQUARE, []], THREE),
        ([[1, 2, 3, 4, 5, float("inf")]], FAR),
        ([[1, 2, 3, 4, float("nan"), 6]], FAR),
        ([[1, 2, 3, 4, 5, 1e9]], FAR),
        ([[1, 2, 3, 4, 5, 10**400]], FAR),
        ([[1, 2, 3, 4, 5, -21]], FAR),
        ([[1, 2, 3, 4, 61, 6]], FAR),
        ({"counts": "abc"}, SIZE),
        ({"size": [1], "counts": [1]}, SIZE),
        ({"size": "2030", "counts": [600]}, SIZE),
        ({"size": [20.0, 30], "counts": [600]}, SIZE),
        ({"size": [True, 600], "counts": [600]}, SIZE),
        ({"size": [0, 30], "counts": []}, SIZE),
        ({"size": [-20, -30], "counts": [600]}, SIZE),
        ({"size": [10**6, 10**6], "counts": [10**12]}, SIZE),
        ({"size": [30, 20], "counts": [600]}, r"size \[30, 20\], but its image is \[20, 30\]"),
        ({"size": [20, 30]}, "without counts"),
        ({"size": [20, 30], "counts": {}}, "without counts"),
        ({"size": [20, 30], "counts": []}, SUM),
        ({"size": [20, 30], "counts": [599]}, SUM),
        ({"size": [20, 30], "counts": [600, 600]}, SUM),
        ({"size": [20, 30], "counts": [-1, 601]}, NUMBERS),
        ({"size": [20, 30], "counts": [2**40]}, NUMBERS),
        ({"size": [20, 30], "counts": [600.0]}, NUMBERS),
        ({"size": [20, 30], "counts": [True, 599]}, NUMBERS),
        ({"size": [20, 30], "counts": ["600"]}, NUMBERS),
        ({"size": [20, 30], "counts": ""}, TEXT),
        ({"size": [20, 30], "counts": "aü"}, TEXT),
        ({"size": [20, 30], "counts": "a~"}, TEXT),
        ({"size": [20, 30], "counts": "0P"}, "breaks off"),
        ({"size": [20, 30], "counts": "P" * 30 + "0"}, "breaks off"),
        ({"size": [20, 30], "counts": "1"}, SUM),
        ({"size": [20, 30], "counts": "O"}, NUMBERS),  # -1
        (5, "neither a list of polygons nor a run-length code"),
        ("abc", "neither a list of polygons nor a run-length code"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_shapes_that_cannot_be_decoded_are_refused(shape: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_shape(shape, (20, 30))


def test_an_outline_that_would_fill_the_memory_is_refused() -> None:
    """pycocotools follows it pixel by pixel: a zigzag over a large image, or an image of one row, would end the process."""
    zigzag = np.random.default_rng(0).uniform(0, 4096, 100_000).tolist()
    for polygon, size in ((zigzag, (4096, 4096)), ([0, 0, 2**23, 1, 0, 1], (1, 2**23))):
        with pytest.raises(ValueError, match=LONG):
            check_shape([polygon], size)
    border = [0, 0, 0, 65535, 4000, 65535, 4000, 0]  # of the largest JPEG there can be
    check_shape([border], (65535, 4000))


def test_many_shapes_of_an_image_are_joined_whatever_their_runs() -> None:
    """Runs of length zero at the same place in two codes, where pycocotools would stop."""
    random = np.random.default_rng(1)
    masks, shapes = [], []
    for _ in range(7):
        runs = random.integers(0, 12, 60) * (random.random(60) < 0.6)
        runs = [0, 0, 0, *runs.tolist()]
        runs.append(600 - sum(runs))
        shape = {"size": [20, 30], "counts": runs}
        check_shape(shape, (20, 30))
        shapes.append(((20, 30), shape))
        masks.append(np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(30, 20).T)
    assert np.array_equal(decode_shapes(shapes).numpy(), np.logical_or.reduce(masks))


@pytest.mark.parametrize(
    "size", [(None, None), (20, None), ("20", "30"), (0, 30), (10**6, 10**6), (20.0, 30), (True, 30)]
)
def test_polygons_need_the_size_of_their_image(size: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="polygons, but its image has no height and width in pixels"):
        check_shape(SQUARE, size)
