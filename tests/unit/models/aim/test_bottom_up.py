"""AIM bottom-up: the skip connections, and drop-out in front of the backbone's own classifier."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from guidance.models.aim import AIMForm, BottomUp, MaskedClassifier, MaskEstimator, build_aim
from guidance.models.classifier import Classifier
from guidance.models.layers.noise import Dropout, sample_keys
from tests.support import objectives as make
from tests.support.explaining import attribute
from tests.support.nets import aim_of, global_average, tiny_aim


class Given(nn.Module):
    """A mask estimator that gives one mask, [1, 1, h, w]."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.given = mask

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        mask = self.given.expand(len(features), 1, *features.shape[2:])
        return mask - 0.5, mask


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def by_hand(*, skip: bool) -> MaskedClassifier:
    """Max pooling, times 2, then times 5, with the left column of 2 x 2 cells active; then the sum of all cells."""
    net = nn.Sequential(
        nn.MaxPool2d(2), nn.Sequential(Times(2.0), Times(5.0)), nn.Flatten(), nn.Linear(4, 1, bias=False)
    )
    nn.init.ones_(net[3].weight)
    plain = Classifier(net, {"final": ["0", "1"], "logits": ["2", "3"]})
    model = build_aim(plain, (1,), first_stage=1, stop_stage=1, num_classes=1, form=AIMForm("bottom_up", skip=skip))
    model.net.masks["stage1"] = Given(torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]]))
    return model


def test_a_skip_connection_by_hand() -> None:
    x = torch.tensor([[1.0, 3.0], [-2.0, 0.5]]).repeat_interleave(2, 0).repeat_interleave(2, 1).view(1, 1, 4, 4)
    sparse, dense = by_hand(skip=False)(x), by_hand(skip=True)(x)
    assert sparse.features["final"].tolist() == [[[[10.0, 0.0], [-20.0, 0.0]]]]
    # The first state of the output's shape is what max pooling leaves of the image.
    assert dense.features["final"].tolist() == [[[[11.0, 3.0], [-22.0, 0.5]]]]
    assert (sparse.logits.item(), dense.logits.item()) == (-10.0, -7.5)
    assert torch.equal(sparse.masks["stage1"], dense.masks["stage1"])


@pytest.mark.parametrize("name", ["convnext_tiny", "resnet18", "resnet50"])
def test_where_the_skips_of_each_backbone_start(name: str) -> None:
    """With masks that let nothing through a stage gives its skip alone, and zero without one."""
    index = {"convnext_tiny": (0, 3)}.get(name, (1, 4))
    images = torch.randn(1, 3, 64, 64)
    for skip in (True, False):
        model = aim_of(name, index[0], classes=2, masking="bottom_up", skip=skip).eval()
        for estimator in model.net.masks.values():
            nn.init.constant_(estimator.score.bias, -1e3)
        with torch.no_grad():
            features = model(images).features
        if not skip:
            assert all(not features[depth].any() for depth in model.masked.values())
            continue
        net = model.net.backbone
        if name == "convnext_tiny":
            starts = [net.features[0], net.features[2], net.features[4], net.features[6]]
        else:
            stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
            starts = [stem if name == "resnet18" else nn.Sequential(stem, net.layer1[0]),
                      net.layer2[0], net.layer3[0], net.layer4[0]]  # fmt: skip
        x = images
        for start, depth in zip(starts, model.masked.values(), strict=True):
            with torch.no_grad():
                x = start(x)
            torch.testing.assert_close(features[depth], x)


def test_a_skip_adds_its_start_to_the_active_cells() -> None:
    """The masks of a training pass, drawn, with everything else as without a skip."""
    model = tiny_aim(2, masking="bottom_up", skip=True).train()
    assert isinstance(model, BottomUp)
    images, keys = torch.randn(3, 3, 20, 20, dtype=torch.float64), sample_keys(0, 0, torch.arange(3))
    out, net = model(images, keys), model.net.backbone
    x = net.stage1(images)
    torch.testing.assert_close(out.features["mid1"], x)  # not masked: no skip either
    for stage, block in (("stage2", net.stage2), ("stage3", net.stage3)):
        assert out.masks[stage].unique().tolist() == [0, 1]
        x = block(x) * out.masks[stage] + block[0](x)
        torch.testing.assert_close(out.features[model.masked[stage]], x)
        assert x.all(), "dense again"


@pytest.mark.parametrize("method", ["ixg", "gradcam", "saliency", "intgrad", "guided_backprop"])
def test_maps_of_a_net_with_skips_are_those_of_its_upper_part(method: str) -> None:
    model = tiny_aim(1, masking="bottom_up", skip=True, classifier_dropout=0.5).eval()
    images, pairs = torch.randn(2, 3, 12, 12, dtype=torch.float64), (torch.arange(2), torch.tensor([0, 2]))
    for depth in model.depths:
        whole = model(images.clone().requires_grad_())
        restarted = model.explainable(images, depth)
        torch.testing.assert_close(restarted.logits, whole.logits)
        torch.testing.assert_close(model.upper(whole.features[depth], depth).logits, whole.logits)
        maps = [attribute(method, model, out, depth, *pairs, create_graph=False) for out in (whole, restarted)]
        torch.testing.assert_close(*maps)
        assert maps[0].any()


def test_the_loss_trains_everything_through_skips_and_drop_out() -> None:
    model = tiny_aim(1, masking="bottom_up", skip=True, classifier_dropout=0.3)
    guided, batch = make.tiny_masking(model).train(), make.batch_of(6)
    guided(batch, guided.counts(batch)).loss.backward()
    silent = [name for name, p in guided.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


@pytest.mark.parametrize(("name", "last"), [("convnext_tiny", "classifier.2"), ("resnet18", "fc")])
def test_drop_out_sits_in_front_of_the_last_linear_layer(name: str, last: str) -> None:
    """In training its draws are those of the samples; in evaluation it does nothing."""
    torch.manual_seed(0)
    plain = aim_of(name, 3, classes=4, masking="bottom_up").double()
    torch.manual_seed(0)
    model = aim_of(name, 3, classes=4, masking="bottom_up", classifier_dropout=0.5).double()
    images, keys = torch.randn(4, 3, 64, 64, dtype=torch.float64), sample_keys(0, 0, torch.arange(4))
    torch.testing.assert_close(model.eval()(images).logits, plain.eval()(images).logits)
    seen: list[Tensor] = []
    model.net.backbone.get_submodule(last).register_forward_pre_hook(
        lambda module, given: seen.append(given[0].detach())
    )
    model.eval()(images)
    model.net.dropout.train()
    out = model(images, keys)
    before, after = seen
    kept = after != 0
    assert 0.4 < float(kept.double().mean()) < 0.6
    torch.testing.assert_close(after, kept * before * 2)
    torch.testing.assert_close(model(images[2:], keys[2:]).logits, out.logits[2:])
    assert not torch.equal(model(images, sample_keys(0, 1, torch.arange(4))).logits, out.logits)


@pytest.mark.parametrize(("name", "stop"), [("convnext_tiny", 2), ("resnet50", 3)])
def test_the_names_of_weights_are_those_of_before(name: str, stop: int) -> None:
    """Those of the bare backbone and of the estimators: weights of nets without skip or drop-out load, and the other way."""
    with torch.device("meta"):
        bare = aim_of(name, stop, classes=2, masking="bottom_up")
        model = aim_of(name, stop, classes=2, masking="bottom_up", skip=True, classifier_dropout=0.3)
    backbone = [f"net.backbone.{key}" for key in bare.net.backbone.state_dict()]
    assert any(key.startswith(("net.backbone.classifier.2.", "net.backbone.fc.")) for key in backbone)
    estimator = MaskEstimator(2).state_dict()
    masks = [f"net.masks.stage{index}.{key}" for index in (stop, stop + 1) for key in estimator]
    assert list(bare.state_dict()) == list(model.state_dict()) == backbone + masks
    # Without a rate nothing is added at all: every layer that draws keeps its stream.
    assert not any(type(module) is Dropout for module in bare.modules())


def test_nets_that_cannot_have_them_are_told_of() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.Linear(4, 2))
    plain = Classifier(net, {"final": ["0"], "logits": [global_average, "1"]})
    one = build_aim(plain, (4,), first_stage=1, stop_stage=1, num_classes=2, form=AIMForm("bottom_up", skip=True))
    with pytest.raises(ValueError, match=r"aim.skip: the stage backbone.0 has no state of the shape \[1, 4, 3, 3\]"):
        one(torch.zeros(1, 3, 6, 6))
    net = nn.Sequential(nn.Conv2d(3, 2, 2), nn.ReLU())
    plain = Classifier(net, {"final": ["0", "1"], "logits": [global_average]})
    with pytest.raises(
        ValueError, match=r"aim.classifier_dropout: .* in front of a linear layer, but this net ends in"
    ):
        build_aim(
            plain, (2,), first_stage=1, stop_stage=1, num_classes=2, form=AIMForm("bottom_up", classifier_dropout=0.1)
        )
