"""What benchmarks measure, on maps and nets of which everything is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from guidance.attribution import ATTRIBUTIONS
from guidance.benchmarks.class_maps import BASE, LENS, JudgedMethod, class_maps, refine
from guidance.benchmarks.faithfulness import area, curve, deletion, insertion, ranks
from guidance.benchmarks.judges import BENCHMARKS, Choices, temperatures
from guidance.benchmarks.randomization import layers, randomized, similarity
from guidance.benchmarks.scenes import LabelledScene
from guidance.models.classifier import Classifier
from tests.support.runs import build_tiny
from tests.unit.evaluation.benchmarks.nets import build_looking

IXG = JudgedMethod("ixg", ATTRIBUTIONS["ixg"], "input")


def quadrants(side: int = 8) -> Tensor:
    regions = torch.zeros(4, side, side, dtype=torch.bool)
    half = side // 2
    for k in range(4):
        regions[k, half * (k // 2) : half * (k // 2 + 1), half * (k % 2) : half * (k % 2 + 1)] = True
    return regions


def scenes(values: Sequence[float] = (1.0, 1.0)) -> list[LabelledScene]:
    """Channel k is bright in quadrant k."""
    regions = quadrants()
    return [
        LabelledScene(f"scene {i}", value * regions.float(), (0, 1, 2, 3), regions) for i, value in enumerate(values)
    ]


def test_class_maps_are_those_of_single_requests() -> None:
    model, images = build_tiny(3).eval(), torch.randn(2, 3, 16, 16)
    together = class_maps(model, images, torch.tensor([[0, 2], [2, 1]]), IXG)
    assert together.shape == (2, 2, 16, 16)
    alone = class_maps(model, images[1:], torch.tensor([[2]]), IXG)
    torch.testing.assert_close(together[0, 1], alone[0, 0])
    assert set(refine(together, {"": None, "x": (1.0,)})) == {"", "x"}


def test_localization_finds_what_the_net_looks_at() -> None:
    rows = BENCHMARKS["localization"].judge(build_looking(), Choices(sigma=0.01))(IXG, scenes())
    assert len(rows) == 2 * 4 * 2  # scenes, classes, variants
    assert {row["variant"] for row in rows} == {BASE, LENS}
    for row in rows:  # the map of a class is its quadrant
        assert row["ra"] == pytest.approx(1)
        assert (row["iou"], row["f1"], row["precision"], row["recall"]) == (1, 1, 1, 1)


def test_oracles_of_quadrants() -> None:
    """A map that is active everywhere has IoU 0.25 and F1 0.40 on its quadrant, one with a random sign 0.20 and 0.33."""
    one = torch.ones(4, 1, 64, 64)
    noise = torch.randn(4, 40, 64, 64, generator=torch.Generator().manual_seed(0))
    for maps, iou, f1 in ((one, 0.25, 0.4), (noise, 0.2, 1 / 3)):
        from guidance.evaluation.scores import all_scores

        regions = quadrants(64)[:, None].expand(maps.shape)
        found = all_scores(maps.flatten(0, 1), regions.flatten(0, 1))
        assert float(found["pixel_iou"].mean()) == pytest.approx(iou, abs=0.002)
        assert float(found["pixel_f1"].mean()) == pytest.approx(f1, abs=0.002)


def test_ranks_are_stable() -> None:
    assert ranks(torch.tensor([[[0.5, 2.0], [2.0, -1.0]]])).tolist() == [[[2, 0], [1, 3]]]


def test_curves_replace_the_most_important_pixels_first() -> None:
    model = build_looking(2)
    start, end = torch.zeros(2, 2, 2), torch.tensor([[[4.0, 8.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    found = curve(model, start, end, ranks(end[:1])[0], 0, step=1, batch_size=2)
    logits = torch.tensor([0.0, 2.0, 3.0, 3.0, 3.0], dtype=torch.float64)  # of class 0; that of class 1 stays 0
    torch.testing.assert_close(found, logits.sigmoid())  # softmax of two
    with_sigmoid = curve(model, start, end, ranks(end[:1])[0], 1, step=3, single_label=False)
    torch.testing.assert_close(with_sigmoid, torch.full((3,), 0.5, dtype=torch.float64))  # 0, 3 and 4 pixels
    assert area([0.0, 1.0, 1.0]) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="two points"):
        area([1.0])


def test_insertion_ends_with_the_image_and_deletion_with_nothing() -> None:
    model, image = build_tiny(3).eval(), torch.randn(3, 16, 16)
    rank = ranks(torch.randn(1, 16, 16))[0]
    p = model(image[None]).logits.double().softmax(1)[0, 1].detach()
    inserted = insertion(model, image, rank, 1, step=100)
    removed = torch.tensor([0.1, 0.2, 0.3])
    deleted = deletion(model, image, rank, 1, removed=removed, step=100)
    assert len(inserted) == len(deleted) == 4  # 0, 100, 200 and 256 pixels
    empty = model(removed[:, None, None].expand(1, 3, 16, 16)).logits.double().softmax(1)[0, 1].detach()
    torch.testing.assert_close(torch.stack([inserted[-1], deleted[0], deleted[-1]]), torch.stack([p, p, empty]))


def test_insertion_of_what_matters_is_better_than_of_what_does_not() -> None:
    choices = Choices(step=8)
    rows = BENCHMARKS["insertion_deletion"].judge(build_looking(), choices)(IXG, scenes((6.0,)))
    worst = JudgedMethod(
        "negative", ATTRIBUTIONS["ixg"].wrapped(lambda model, request: -_ixg(model, request), ""), "input"
    )
    others = BENCHMARKS["insertion_deletion"].judge(build_looking(), choices)(worst, scenes((6.0,)))
    for good, bad in zip(rows, others, strict=True):
        assert len(good["insertion_curve"]) == 9
        if good["variant"] == BASE:
            assert good["insertion"] > bad["insertion"]
            assert good["deletion"] < bad["deletion"]


def _ixg(model: Classifier, request: object) -> Tensor:
    maps: Tensor = ATTRIBUTIONS["ixg"].function(model, request)
    return maps


def test_layers_are_drawn_anew_from_the_output() -> None:
    model = build_tiny(3)
    names = layers(model)
    assert [name.split(".")[-1] for name in names] == ["fc", "conv2", "bn1", "conv1"]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    half, all_ = randomized(model, 0.5), randomized(model, 1.0)
    changed = [k for k, v in half.state_dict().items() if not torch.equal(v, before[k])]
    assert {k.rsplit(".", 2)[-2] for k in changed} == {"fc", "conv2"}
    assert torch.equal(
        half.state_dict()[changed[0]], all_.state_dict()[changed[0]]
    )  # the larger draw holds the smaller
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(torch.equal(v, before[k]) for k, v in randomized(model, 0).state_dict().items())
    with pytest.raises(ValueError, match=r"in \[0, 1\], not 1.5"):
        randomized(model, 1.5)


class _Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, 3.0, 5.0]))


def test_parameters_without_an_initialisation_are_drawn_too() -> None:
    model = _Scaled()
    found = randomized(model, 1.0, seed=3)
    assert not torch.equal(found.get_parameter("scale"), model.scale)
    assert not torch.equal(found.get_parameter("scale"), randomized(model, 1.0, seed=4).get_parameter("scale"))


def test_similarities() -> None:
    a = torch.tensor([[1.0, 2.0], [3.0, 10.0]])
    monotone = similarity(a, a.square())
    assert monotone["spearman"] == pytest.approx(1)
    assert monotone["pearson"] < 1
    assert similarity(a, -a) == pytest.approx({"spearman": -1, "pearson": -1, "cosine": -1})
    constant = similarity(a, torch.ones(2, 2))
    assert math.isnan(constant["spearman"])
    assert constant["cosine"] == pytest.approx(16 / (2 * 114**0.5))
    assert math.isnan(similarity(a, torch.zeros(2, 2))["cosine"])


def test_randomization_compares_with_the_trained_net() -> None:
    model = build_tiny(3).eval()
    images = torch.randn(2, 3, 16, 16)
    regions = torch.ones(1, 16, 16, dtype=torch.bool)
    chosen = [LabelledScene(f"scene {i}", image, (0,), regions) for i, image in enumerate(images)]
    choices = Choices(fractions=(0.0, 1.0))
    rows = BENCHMARKS["randomization"].judge(model, choices)(IXG, chosen)
    assert len(rows) == 2 * 2 * 2
    top = model(images).logits.argmax(1).tolist()
    for row in rows:
        assert row["class"] == top[int(row["scene"][-1])]
        if row["randomized"] == 0:
            assert row["spearman"] == pytest.approx(1)
        else:
            assert abs(row["spearman"]) < 0.9


def test_ablation_of_temperatures() -> None:
    assert temperatures((2, 5), (50,)) == {"": None, "1, 2, 50": (1.0, 2.0, 50.0), "1, 5, 50": (1.0, 5.0, 50.0)}
    assert len(temperatures()) == 10
