"""A transformer with a class token is added by a row, without touching the package: its state at a depth is no grid."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from guidance.attribution import ATTRIBUTIONS, Explainable, Method, Request, explain, one_hot
from guidance.attribution.gradient import one_gradient
from guidance.config import Config
from guidance.models import BACKBONES, Backbone, Classifier, Depth
from tests.whole.joints.conftest import Go

SIDE, DIM = 4, 8  # cells a side of an image of 32 pixels, width of a token


class Attention(nn.Module):
    """Self-attention with a residual connection; the weights pass through a layer of their own, which can be watched."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.weights = nn.LayerNorm(DIM), nn.Linear(DIM, 3 * DIM), nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm(tokens)).chunk(3, dim=-1)
        return tokens + self.weights((query @ key.transpose(1, 2) * DIM**-0.5).softmax(-1)) @ value


class Embedding(nn.Module):
    """Images -> a class token and the patches [B, 1 + h * w, D]."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, DIM, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, DIM))

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat(
            (self.token.expand(len(images), -1, -1), self.patches(images).flatten(2).transpose(1, 2)), dim=1
        )


class ClassToken(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]


def patch_cells(tokens: Tensor) -> Tensor:
    """Tokens [M, 1 + h * w, D], or a gradient by them -> the cells of the patches [M, D, h, w]."""
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (SIDE, SIDE))


def build_tokens(num_classes: int) -> Classifier:
    net = nn.ModuleDict({
        "embed": Embedding(), "block1": Attention(), "block2": Attention(), "token": ClassToken(),
        "head": nn.Linear(DIM, num_classes),
    })  # fmt: skip
    stages = {
        "mid1": Depth(("embed", "block1"), patch_cells),
        "final": Depth(("block2",), patch_cells),
        "logits": ("token", "head"),
    }
    return Classifier(net, stages, watched=("block1.weights", "block2.weights"))


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Backbone(build_tokens, "head", {}, depths=("input", "mid1", "final"), stride=8)
    monkeypatch.setitem(BACKBONES, "tokens", row)


# Not GradCAM at the last depth, of which this net reads the class token alone.
@pytest.mark.parametrize("method", ["ixg", "gradcam", "intgrad", "guided_backprop"])
def test_it_is_explained_at_its_depths(method: str) -> None:
    torch.manual_seed(0)
    model = build_tokens(3).eval()
    images, rows = torch.rand(2, 3, 32, 32), torch.tensor([0, 1, 1])
    sizes = {"input": (3, 32, 32), "mid1": (3, SIDE, SIDE)}
    for depth, size in sizes.items():
        request = Request(method, depth, rows, one_hot(torch.tensor([0, 2, 1]), 3))
        maps, out = explain(model, images, request)
        assert maps.shape == size
        assert maps.abs().sum() > 0
    assert out.features["mid1"].shape == (2, 1 + SIDE**2, DIM)


def test_input_times_gradient_by_hand() -> None:
    torch.manual_seed(0)
    model = build_tokens(3).eval()
    images = torch.rand(1, 3, 32, 32)
    request = Request("ixg", "mid1", torch.zeros(1, dtype=torch.long), one_hot(torch.tensor([1]), 3))
    maps, out = explain(model, images, request)
    state = out.features["mid1"].detach().requires_grad_()
    net = model.net
    logit = net["head"](net["token"](net["block2"](state)))[0, 1]
    (gradient,) = torch.autograd.grad(logit, state)
    torch.testing.assert_close(maps[0], (state * gradient)[0, 1:].sum(1).view(SIDE, SIDE).detach())


def test_it_is_guided_evaluated_and_resumed(go: Go, tokens: None) -> None:
    objective = {"classification": "cross_entropy", "localization": {"weight": 0.1}}
    for_tokens = {"method": "ixg", "depth": "mid1"}
    found, lines = go(model={"name": "tokens"}, objective=objective | {"attribution": for_tokens})
    assert 0 < found.metrics["epg"] < 1
    assert all(0 < line["train/localization"] <= 1 for line in lines if "epoch" in line)


def attention_gradient(model: Explainable, request: Request) -> Tensor:
    """Attention from the class token to the patches times its gradient, of the last block: a method of its own kind."""
    weights = list(request.out.inside.values())[-1]
    logits = request.out.logits.index_select(0, request.rows)
    gradient = one_gradient(logits, request.seed, weights, create_graph=request.create_graph, keep=True)
    return (weights * gradient)[request.rows, 0, 1:].unflatten(1, (SIDE, SIDE))


def test_a_method_takes_gradients_by_its_attention(
    tokens: None, settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, go: Go
) -> None:
    monkeypatch.setitem(ATTRIBUTIONS, "attention_gradient", Method(attention_gradient, "Attention x Gradient"))
    objective = {"classification": "cross_entropy", "localization": {"weight": 0.1}}
    attribution = {"method": "attention_gradient", "depth": "mid1"}
    found, _ = go(model={"name": "tokens"}, objective=objective | {"attribution": attribution})
    assert 0 < found.metrics["epg"] < 1
