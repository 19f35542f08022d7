"""Training of B-cos and X-DNN nets by guidance, with every loss, on real images, and which of them need gradients by images."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from guidance.attribution import ATTRIBUTIONS, method_of, needs_gradient
from guidance.data import GuidanceDataset, Loader, RegionOptions, TrainBatches, train_transform
from guidance.data.sets.voc import load_voc
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models import BACKBONES
from guidance.models.classifier import Classifier
from guidance.objectives import Objective
from guidance.types import Batch, Regions
from tests.support import objectives as make
from tests.support.explaining import attribute
from tests.support.small_nets import CLASSES, build

LOSSES = ("energy", "l1", "ppce", "rrr", "energy_star")
WEIGHTS = {"energy": 0.1, "l1": 0.1, "ppce": 0.02, "rrr": 1e-4, "energy_star": 1.0}


@pytest.fixture(scope="module")
def batches(request: pytest.FixtureRequest) -> dict[str, list[Batch]]:
    """Batches of 4 real images of 64 pixels, in both encodings."""
    from tests.conftest import sample

    source = load_voc(sample("voc_sample") / "VOCdevkit", "train")
    result = {}
    for encoding in ("inverse", "normalized"):
        dataset = GuidanceDataset(
            source, train_transform(64, "none", encoding), training=True, regions=RegionOptions(classes_per_image="one")
        )
        plan = TrainBatches(len(dataset), 4, seed=0, rank=0, world_size=1)
        result[encoding] = [batch.to("cpu") for batch, _ in zip(Loader(dataset, plan), range(8), strict=False)]
    return result


def annotate(batch: Batch, keep: Tensor) -> Batch:
    """`batch` with only the pairs in `keep` [n] annotated."""
    r = batch.regions
    regions = Regions(r.image[keep], r.target[keep], r.mask[keep], None, min(r.rounds, len(keep)))
    return batch._replace(regions=regions)


def small_xdnn() -> Classifier:
    from torchvision.models.resnet import BasicBlock

    from guidance.models.cnns.xdnn import xdnn_resnet
    from tests.support.small_nets import TinyResNet

    net = TinyResNet(BasicBlock, nn.Identity, width=16)
    net.fc = nn.Linear(16, 20)
    model = xdnn_resnet(net)  # type: ignore[arg-type]
    for parameter in model.parameters():
        nn.init.kaiming_normal_(parameter)
    return model


@torch.no_grad()
def descend(model: nn.Module, *, share: float) -> None:
    """A step along the negative gradient that moves the weights by `share` of their length: small, whatever the loss."""
    weights = [p for p in model.parameters() if p.grad is not None]
    length = torch.cat([p.flatten() for p in weights]).norm() / torch.cat([p.grad.flatten() for p in weights]).norm()
    for p in weights:
        p.sub_(p.grad * (share * length))


@pytest.mark.parametrize("depth", ["input", "mid2", "final"])
@pytest.mark.parametrize("name", ["bcos", "xdnn"])
def test_guidance_trains_on_real_images_with_every_loss(batches: dict[str, list[Batch]], name: str, depth: str) -> None:
    """Energy, L1, PPCE, RRR and Energy* in turn; the objective falls on a batch that it is trained on. Small nets."""
    batch = batches["normalized" if name == "xdnn" else "inverse"][0]
    for loss in LOSSES:
        torch.manual_seed(0)
        model = small_xdnn() if name == "xdnn" else tiny_bcos()
        objective = guided(model, loss, WEIGHTS[loss], depth)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        totals = []
        for _ in range(7):
            step = objective(batch, objective.counts(batch))
            optimizer.zero_grad()
            step.loss.backward()
            optimizer.step()
            totals.append(float(step.loss.detach()))
        assert all(math.isfinite(t) for t in totals), (loss, totals)
        assert totals[-1] < totals[0], (loss, totals)


@pytest.mark.parametrize("depth", ["input", "mid2", "final"])
@pytest.mark.parametrize("name", ["bcos", "xdnn"])
def test_energy_moves_the_maps_into_the_boxes(batches: dict[str, list[Batch]], name: str, depth: str) -> None:
    """With plain steps along the gradient of an objective that the localisation loss dominates."""
    batch = batches["normalized" if name == "xdnn" else "inverse"][0]
    model = small_xdnn() if name == "xdnn" else tiny_bcos()
    objective = guided(model, "energy", 10.0, depth)
    maps = []
    for _ in range(7):
        step = objective(batch, objective.counts(batch))
        model.zero_grad()
        step.loss.backward()
        descend(model, share=1e-3 if name == "xdnn" else 1e-4)
        maps.append(float(step.terms["localization"]))
    assert maps[-1] < maps[0], maps


def guided(model: Classifier, loss: str, weight: float, depth: str) -> Objective:
    return make.guided(
        model, localization=LOCALIZATION_LOSSES[loss].function, weight=weight,
        attribution="bcos" if model.dynamic else "ixg", depth=depth,
    ).train()  # fmt: skip


def tiny_bcos() -> Classifier:
    from torchvision.models.resnet import Bottleneck

    from guidance.models.bcos.cnns import bcos_resnet
    from tests.support.small_nets import TinyResNet

    net = TinyResNet(Bottleneck, nn.BatchNorm2d, width=16)
    net.fc = nn.Linear(64, 20)
    return bcos_resnet(net)


@pytest.mark.parametrize("steps", [60, pytest.param(200, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", ["bcos", "xdnn"])
def test_many_steps_with_random_annotated_subsets_stay_finite(
    batches: dict[str, list[Batch]], name: str, steps: int
) -> None:
    """Each loss at each depth, four times or more."""
    stream = batches["normalized" if name == "xdnn" else "inverse"]
    model = small_xdnn() if name == "xdnn" else tiny_bcos()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    first, last = [], []
    for i in range(steps):
        loss, depth = LOSSES[i % 5], ("input", "mid2", "final")[i % 3]
        objective = guided(model, loss, WEIGHTS[loss] / 10, depth)
        batch = stream[i % len(stream)]
        pairs = len(batch.regions.image)
        count = int(torch.randint(pairs + 1, (), generator=generator))
        batch = annotate(batch, torch.randperm(pairs, generator=generator)[:count].sort().values)
        step = objective(batch, objective.counts(batch))
        optimizer.zero_grad()
        step.loss.backward()
        assert torch.isfinite(step.loss), (i, loss, depth)
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None), (i, loss, depth)
        optimizer.step()
        (first if i < 20 else last).append(float(step.terms["classification"]))
    assert sum(last[-20:]) < sum(first)


def test_every_bcos_backbone_is_guided_by_its_contributions() -> None:
    for name, backbone in BACKBONES.items():
        if name.startswith("bcos"):
            assert not ATTRIBUTIONS["bcos"].refuses(backbone.traits)
            assert backbone.encoding == "inverse"


@pytest.mark.parametrize("name", ["bcos_resnet", "bcos_vitc", "xdnn"])
@pytest.mark.parametrize("method", ["ixg", "bcos", "gradcam", "saliency", "intgrad"])
def test_images_get_no_gradient_where_no_method_needs_it(name: str, method: str) -> None:
    model, images = build(name)
    pairs = (torch.tensor([0, 2]), torch.tensor([1, 3]))
    regions = Regions(*pairs, torch.ones(2, *images.shape[-2:], dtype=torch.bool), None, 1)
    batch = Batch(images, torch.eye(3, CLASSES).double(), regions, torch.full((3,), -1), torch.arange(3))
    objective = make.guided(model, localization=LOCALIZATION_LOSSES["rrr"].function, weight=0.1, attribution=method,
                                     depth="input").train()  # fmt: skip
    objective(batch, objective.counts(batch)).loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    quiet = method in ("ixg", "bcos") or (method == "intgrad" and name == "xdnn")
    assert needs_gradient(method_of(method), model) != quiet
    out = model(images.detach())
    if quiet:
        attribute(method, model, out, "input", *pairs, create_graph=True).sum().backward()
    else:
        with pytest.raises(ValueError, match="do not require grad"):
            attribute(method, model, out, "input", *pairs, create_graph=True)
