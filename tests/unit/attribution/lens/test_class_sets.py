"""Which classes compete, by name."""

from __future__ import annotations

import pytest
import torch

from guidance.attribution.lens import CLASS_SETS, ClassSet, find_class_set, label_classes
from guidance.attribution.lens.class_sets import competing

LOGITS = torch.tensor([[0.1, 3.0, -2.0, 2.0, 1.0], [5.0, 4.0, 3.0, 2.0, 1.0]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("top2", [[1, 3], [0, 1]]),
        ("top4", [[1, 3, 4, 0], [0, 1, 2, 3]]),
        ("top9", [[1, 3, 4, 0, 2], [0, 1, 2, 3, 4]]),  # all there are
        ("top1_lowest", [[1, 2], [0, 4]]),
        ("top3_lowest", [[1, 3, 4, 2], [0, 1, 2, 4]]),
        ("best_worst", [[1, 2], [0, 4]]),
    ],
)
def test_sets_of_logits(name: str, expected: list[list[int]]) -> None:
    row, k = find_class_set(name)
    assert row.choose is not None
    assert row.choose(LOGITS, k).tolist() == expected
    assert row.choose(LOGITS[:0], k).shape == (0, len(expected[0]))


@pytest.mark.parametrize("name", ["tpo2", "top", "top<k>", "top2_lwest", "", "top2_lowest3"])
def test_unknown_names_are_told_with_those_that_are_known(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown class set '{name}'; known: best_worst, ground_truth, top<k>"):
        find_class_set(name)


@pytest.mark.parametrize(("name", "smallest"), [("top1", "top2"), ("top0", "top2"), ("top0_lowest", "top1_lowest")])
def test_a_set_in_which_nothing_competes_is_refused(name: str, smallest: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' nothing competes; the smallest of its kind is '{smallest}'"):
        find_class_set(name)


def test_a_set_is_added_by_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLASS_SETS, "next<k>", ClassSet(lambda logits, k: logits.topk(k + 1).indices[:, 1:]))
    row, k = find_class_set("next2")
    assert row.choose is not None
    assert row.choose(LOGITS, k).tolist() == [[3, 4], [1, 2]]


def test_the_classes_of_images_are_filled_up_with_the_explained_one() -> None:
    targets = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    rows, explained = torch.tensor([0, 1, 2, 0, 3]), torch.tensor([2, 3, 0, 0, 1])
    found = label_classes(targets, rows, explained)
    assert [set(classes) for classes in found.tolist()] == [{0, 2}, {3}, {0, 1, 3}, {0, 2}, {1}]
    assert found.shape == (5, 3)
    assert label_classes(targets, rows, explained, 4).shape == (5, 4)
    assert label_classes(targets[:0], rows[:0], explained[:0]).shape == (0, 1)


def test_a_class_that_stands_there_twice_competes_once() -> None:
    found = competing(torch.tensor([[2, 1, 2, 1], [0, 1, 2, 3], [3, 3, 3, 3]]))
    assert found.int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
