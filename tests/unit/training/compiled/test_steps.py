"""A compiled step equals the plain one: loss, terms, statistics and gradients, whatever is annotated."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch._inductor import config as inductor

from guidance.attribution import CompiledNet, Request, check_compilable, explain, one_hot
from guidance.attribution.compiled import TRACEABLE
from guidance.losses import energy, l1
from guidance.models.classifier import Classifier
from guidance.models.layers.normalization import convert_batchnorm
from guidance.objectives import Objective
from guidance.types import Batch
from tests.support.objectives import batch_of, guided, tiny_masking
from tests.support.scenarios import small_net
from tests.support.small_nets import CLASSES, build, vit_tiny

pytestmark = pytest.mark.skipif(not TRACEABLE, reason="torch 2.6 cannot trace how a net is explained")
ANNOTATED: Mapping[str, list[tuple[int, int]]] = {
    "none": [],
    "one": [(2, 1)],
    "some": [(0, 0), (2, 1)],
    "three": [(1, 3), (2, 1), (3, 2)],
    "several of one image": [(0, 0), (0, 3), (2, 1), (1, 2)],
    "all": [(3, 3), (0, 0), (2, 2), (1, 1)],
}
PREPARED = "aot_eager"  # traced and differentiated as for the inductor, without C++ to be compiled
State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def train_step(objective: Objective, batch: Batch, *, bf16: bool = False) -> tuple[State, State]:
    """Terms and statistics, and the gradients of all parameters."""
    objective.zero_grad()
    with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
        step = objective(batch, objective.counts(batch))
    step.loss.backward()
    found = {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}
    return {**step.terms, "loss": step.loss.detach(), **dict(objective.named_buffers())}, found


def compiled(objective: Objective, backend: str = PREPARED) -> tuple[Objective, CompiledNet]:
    """A copy of the objective that runs its net compiled."""
    other = copy.deepcopy(objective)
    other.compiled = CompiledNet(other.model, backend=backend)
    return other, other.compiled


def one_layer() -> Classifier:
    """What is compiled to C++, file by file, in as few of them as can be: about a second each."""
    net = nn.ModuleDict({
        "conv": nn.Conv2d(3, 6, 3, stride=2, padding=1), "bn": nn.BatchNorm2d(6), "relu": nn.ReLU(inplace=True),
        "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "fc": nn.Linear(6, CLASSES),
    })  # fmt: skip
    return Classifier(net, {"final": ("conv", "bn", "relu"), "logits": ("pool", "flat", "fc")})


def frozen_net(depth: str = "input", *, model: Classifier | None = None) -> Objective:
    model = model or small_net(CLASSES)
    convert_batchnorm(model.net, "frozen")
    return guided(model.double(), localization=l1, weight=0.5, reduction="mean", depth=depth).train()


def batches_of(*kinds: str, images: Tensor | None = None) -> list[Batch]:
    made = [batch_of(4, ANNOTATED[kind], CLASSES) for kind in kinds]
    return made if images is None else [batch._replace(images=images) for batch in made]


@pytest.mark.parametrize(("depth", "backend"), [
    *(pytest.param(depth, PREPARED, marks=pytest.mark.long) for depth in ("input", "mid1")), ("input", "inductor"),
])  # fmt: skip
def test_every_number_of_annotated_images(depth: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three graphs do: nothing is explained, every image once, any other number. No batch of a later epoch waits."""
    monkeypatch.setattr(inductor, "compile_threads", 1)  # no further processes, which would import torch
    objective = frozen_net(depth, model=one_layer() if backend == "inductor" else None)
    other, net = compiled(objective, backend)
    for epoch in range(2):
        for batch in batches_of(*ANNOTATED):
            torch.testing.assert_close(train_step(other, batch), train_step(objective, batch), rtol=1e-9, atol=1e-12)
        assert net.graphs == 3, epoch


@pytest.mark.parametrize(("name", "depth", "graphs"), [
    ("bcos_resnet", "input", 2), ("relu_resnet", "final", 1),
    *(pytest.param(name, depth, 2, marks=pytest.mark.long) for name, depth in (("bcos_simple_vit", "mid2"), ("xdnn", "input"))),
])  # fmt: skip
def test_every_family(name: str, depth: str, graphs: int) -> None:
    """B-cos nets with their batch statistics, which two steps in a row update. A linear layer does not ask for which rows."""
    model, images = build(name, batch=4)
    if name == "bcos_resnet":  # the blocks of its first and last stage, of the same width: each layer takes its time
        model.net.layer2, model.net.layer3 = nn.Sequential(), nn.Sequential()
    objective = guided(model.train(), localization=energy, weight=0.5, depth=depth)
    other, net = compiled(objective)
    for batch in batches_of("some", "all", "three", images=images):
        torch.testing.assert_close(train_step(other, batch), train_step(objective, batch), rtol=1e-8, atol=1e-11)
    assert net.graphs == graphs


def test_batches_of_other_sizes() -> None:
    """As where unreadable images are left out: one more graph of each kind does for all other sizes."""
    objective = frozen_net()
    other, net = compiled(objective)
    for size in (4, 3, 2):
        for pairs in ([], [(0, 1)]):
            batch = batch_of(size, pairs, CLASSES)
            torch.testing.assert_close(train_step(other, batch), train_step(objective, batch), rtol=1e-9, atol=1e-12)
    assert net.graphs == 4


def test_a_net_whose_layers_are_watched() -> None:
    """ViTs, whose attention weights methods ask for."""
    with pytest.raises(ValueError, match="the attention of this net has gradients of its own"):
        check_compilable(vit_tiny(), (3, 8, 8))


@pytest.mark.parametrize("epochs", [((1, 1),), pytest.param(((0, 1), (1, 1), (2, 2)), marks=pytest.mark.long)])
def test_masks_of_aim(epochs: Sequence[tuple[int, int]]) -> None:
    """Draws by sample, noise and the falling threshold: one graph, and another where the noise ends."""
    objective = tiny_masking(anneal_epochs=3, noise_epochs=2)
    other, net = compiled(objective)
    for epoch, graphs in epochs:
        objective.train().begin_epoch(epoch)
        other.train().begin_epoch(epoch)
        batch = batch_of(4, [])
        torch.testing.assert_close(train_step(other, batch), train_step(objective, batch), rtol=1e-9, atol=1e-12)
        assert net.graphs == graphs


def test_bf16() -> None:
    """Autocast is part of the graph, maps are in float32: as close to the plain step as that is to float32."""
    objective = frozen_net().float()
    (batch,) = batches_of("some")
    batch = batch._replace(images=batch.images.float(), targets=batch.targets.float())
    other, _ = compiled(objective)
    found, expected = (train_step(x, batch, bf16=True)[1] for x in (other, objective))
    exact = train_step(objective, batch)[1]
    for name, gradient in found.items():
        scale = exact[name].norm()
        assert (gradient - exact[name]).norm() < 1.5 * (expected[name] - exact[name]).norm() + 0.02 * scale, name


def test_one_answer() -> None:
    """What asks the net twice, as the lens does, cannot go unnoticed."""
    objective = frozen_net()
    other, net = compiled(objective)
    (batch,) = batches_of("some")
    (request,) = [term.asks(batch, other.counts(batch)) for term in other.terms if term.asks is not None]
    out = net(batch.images, request=request)
    assert list(out.pullbacks) == ["input"]
    out.pullbacks["input"](request.seed, request.rows)
    with pytest.raises(ValueError, match="answers the one request that it was given"):
        out.pullbacks["input"](request.seed, request.rows)


def test_what_is_elementwise_is_not_kept_for_the_backward_pass() -> None:
    """Of a guided B-cos step, with the partitioner of the inductor: fewer bytes than the plain net keeps."""
    model, images = build("bcos_resnet", batch=4)
    model.net.layer2, model.net.layer3 = nn.Sequential(), nn.Sequential()
    plain = guided(model.train(), localization=energy, weight=0.5, depth="input")
    (batch,), kept, steps = batches_of("all", images=images), [], []
    for objective in (plain, compiled(plain, "aot_eager_decomp_partition")[0]):
        sizes: dict[int, int] = {}

        def note(x: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[x.data_ptr()] = x.nbytes
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            steps.append(train_step(objective, batch))
        kept.append(sum(sizes.values()))
    assert kept[1] < kept[0]
    torch.testing.assert_close(*steps, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(("name", "depth"), [
    pytest.param("bcos_resnet", "mid2", marks=pytest.mark.long), ("xdnn", "input"),
])  # fmt: skip
def test_evaluation(name: str, depth: str) -> None:
    """Maps and logits of batches of different sizes, the last of one image, from three graphs."""
    model, images = build(name, batch=4)
    net = CompiledNet(model, backend=PREPARED)
    for size, kind in ((4, "all"), (4, "none"), (4, "some"), (3, "one"), (4, "several of one image"), (1, "first")):
        pairs = [(0, 2)] if kind == "first" else ANNOTATED[kind]
        rows = torch.tensor([row for row, _ in pairs], dtype=torch.long)
        seed = one_hot(torch.tensor([target for _, target in pairs], dtype=torch.long), CLASSES)
        rounds = int(rows.bincount().max()) if len(rows) else 0
        request = Request("ixg", depth, rows, seed, rounds=rounds)
        expected, found = (explain(model, images[:size], request, compiled=x) for x in (None, net))
        torch.testing.assert_close(found.maps, expected.maps, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found.out.logits, expected.out.logits, rtol=1e-9, atol=1e-12)
        assert not found.maps.requires_grad
    assert net.graphs == 3
    assert model.training
