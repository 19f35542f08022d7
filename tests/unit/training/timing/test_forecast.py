"""What is told before the first epoch is over: exact numbers, and that nothing changes for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.assembly import build_trainer
from guidance.assembly.forecast import EvaluationSeconds
from guidance.attribution import ATTRIBUTIONS
from guidance.config import Config
from guidance.objectives import Counts, Localization, Losses, Objective, Term, guided_objective
from guidance.training import forecast
from guidance.training.forecast import Foreseen, GuidanceTimer, peak_memory
from guidance.types import Batch, Forward, Regions
from tests.support.runs import CPU, assert_same, build_tiny, snapshot

Make = Callable[..., Config]


class Ticks:
    """A clock that goes on by what is computed: the test sets it."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def passed(self, moment: float) -> bool:
        return True

    def seconds(self, begin: float, end: float) -> float:
        return end - begin


class Spends(torch.autograd.Function):
    """The identity, which takes some time of a clock on the way forward and on the way back."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, clock: Ticks, there: float, back: float) -> torch.Tensor:
        clock.time += there
        context.clock, context.back = clock, back
        return x.clone()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        context.clock.time += context.back
        return gradient, None, None, None


def batch_of(regions: int) -> Batch:
    image = torch.arange(regions)
    mask = torch.zeros(regions, 8, 8, dtype=torch.bool)
    mask[:, :4] = True
    index = torch.arange(3)
    targets = torch.eye(3)
    return Batch(torch.rand(3, 3, 8, 8), targets, Regions(image, image, mask, None, 1), index * 0 - 1, index)


def spending(clock: Ticks) -> Objective:
    """A net that takes 100 and 1000 seconds, classification 7 and 0, a term of regions 10 and 20, on the way there and back."""
    model = build_tiny(3)

    class Net(type(model)):  # type: ignore[misc]
        def forward(self, images: torch.Tensor, *more: Any) -> Forward:
            return super().forward(Spends.apply(images.requires_grad_(), clock, 100.0, 1000.0), *more)

    model.__class__ = Net

    def classify(out: Forward, batch: Batch, counts: Counts) -> Losses:
        return Losses(Spends.apply(out.logits, clock, 7.0, 0.0).square().mean(1))

    def locate(out: Forward, batch: Batch, counts: Counts) -> Losses:
        features = Spends.apply(out.features["mid1"], clock, 10.0, 20.0)
        return Losses(features[batch.regions.image].square().mean((1, 2, 3)))

    return Objective(model, [Term("classify", classify), Term("locate", locate, items="regions")])


def test_guidance_is_its_losses_and_the_way_back_to_the_logits() -> None:
    clock = Ticks()
    objective = spending(clock)
    timer, plain = GuidanceTimer(objective, clock), objective.terms
    assert timer.guided
    for regions, seconds in ((2, 30), (0, 0), (3, 30)):
        before = clock.time
        batch = batch_of(regions)
        objective(batch, objective.counts(batch)).loss.backward()
        assert clock.time - before == (1137 if regions else 1107)
        assert timer.seconds() == seconds
    batch = batch_of(1)
    for chunk in batch.chunk(3):  # the second and third have none, but the global batch has
        objective(chunk, objective.counts(batch)).loss.backward()
    assert timer.seconds() >= 30
    timer.detach()
    assert objective.terms != plain
    objective(batch, objective.counts(batch)).loss.backward()
    assert timer.seconds() == 0


def test_gradients_are_the_same_while_it_is_timed() -> None:
    model = build_tiny(3).eval()
    loss = Localization(lambda maps, mask: maps.square().mean((1, 2)), 0.5, depth="mid1")
    objective, batch = guided_objective(model, localization=loss), batch_of(2)

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        objective(batch, objective.counts(batch)).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = gradients()
    timer = GuidanceTimer(objective, Ticks())
    watched = gradients()
    timer.detach()
    assert len(plain) == len(watched) > 0
    assert all(map(torch.equal, plain, watched))
    assert all(map(torch.equal, plain, gradients()))


def test_three_lines() -> None:
    found = Foreseen(
        steps=2000, left=1500, length=100, timed=5, step=0.5, guidance=0.347, evaluation=10.0, images=120, memory=3.456e9,
        where="on the GPU",
    )  # fmt: skip
    assert found.lines() == [
        "forecast: 1500 of 2000 steps to go, 100 in an epoch; 0.5 s a step (5 timed), about 1 min an epoch, 15 min in all",
        "forecast: guidance about 35% of a step (maps, losses and their gradient, in the same steps); evaluation about 17% of "
        "an epoch (120 images, as fast as some of the training images were)",
        "forecast: peak memory so far 3.46 GB on the GPU",
    ]
    plain = Foreseen(4, 3, 1, 0, 0.5, None, 1.5, 8, 1e8, "here").lines()
    assert plain[0].endswith(
        "0.5 s a step (the first one, which is slower than others), about 2 s an epoch, 6 s in all"
    )
    assert plain[1].startswith("forecast: no guidance; evaluation about 75% of an epoch (8 images")
    compiled = replace(found, compiled=True).lines()[1]
    assert compiled.startswith(
        "forecast: what guidance takes is a part of the compiled net and not timed alone; evaluation"
    )


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Foreseen]:
    """What each forecast was made of."""
    found: list[Foreseen] = []
    lines = Foreseen.lines
    monkeypatch.setattr(Foreseen, "lines", lambda self: (found.append(self), lines(self))[1])
    return found


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("batch_size", "timed"),
    [(2, 5), (6, 3), (20, 0)],  # 13, 4 and 1 steps an epoch
)
def test_a_run_tells_once_also_when_it_is_resumed(
    settings: Make,
    tmp_path: Path,
    told: list[Foreseen],
    capsys: pytest.CaptureFixture[str],
    batch_size: int,
    timed: int,
) -> None:
    length = 26 // batch_size
    schedule = {"name": "constant"}
    trainer = build_trainer(settings(trainer={"epochs": 1, "batch_size": batch_size}, schedule=schedule), tmp_path, CPU)
    assert trainer.fit()
    printed = capsys.readouterr().out
    assert printed.count("forecast: ") == 3
    assert printed.index("forecast: ") < printed.index("epoch 1 (step")
    (first,) = told
    assert (first.steps, first.length, first.timed, first.images) == (length, length, timed, 10)
    assert first.left == length - (timed + 1)
    assert first.step > 0
    assert first.evaluation > 0
    assert first.memory > 1e7
    again = settings(trainer={"epochs": 3, "batch_size": batch_size}, schedule=schedule)
    assert build_trainer(again, tmp_path, CPU, resume=True).fit()
    assert (told[1].steps, told[1].left) == (3 * length, 2 * length - (timed + 1))
    assert capsys.readouterr().out.count("forecast: ") == 3


@pytest.mark.usefixtures("tiny")
def test_a_dry_run_tells_of_the_whole_run(settings: Make, tmp_path: Path, told: list[Foreseen]) -> None:
    assert build_trainer(settings(), tmp_path, CPU, dry_run=True).fit()
    (found,) = told
    assert (found.steps, found.left, found.length, found.timed) == (12, 10, 4, 1)
    assert found.guidance is not None
    assert 0 < found.guidance < 1


@pytest.mark.usefixtures("tiny")
def test_without_guidance_and_with_chunks(settings: Make, tmp_path: Path, told: list[Foreseen]) -> None:
    config = settings(objective={"localization": {"weight": 0.0}}, trainer={"epochs": 1, "accumulate": 3})
    assert build_trainer(config, tmp_path, CPU).fit()
    assert told[0].guidance is None


def test_nothing_changes_for_it(
    settings: Make, tmp_path: Path, tiny: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the bit: weights, state of the optimizer, random numbers, metrics."""
    with monkeypatch.context() as patch:
        patch.setattr("guidance.assembly.training.build_forecast", lambda *_: None)
        assert build_trainer(settings(), tmp_path / "plain", CPU).fit()
    assert "forecast" not in capsys.readouterr().out
    assert build_trainer(settings(), tmp_path / "told", CPU).fit()
    assert "forecast: peak" in capsys.readouterr().out
    assert_same(snapshot(tmp_path / "told"), snapshot(tmp_path / "plain"))


def test_an_evaluation_is_as_many_images_as_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch of 3, 2 at once, of whose classes the annotated share is explained, twice; the rest is a multiplication."""
    model, explained = build_tiny(3), []
    clock = Ticks()
    monkeypatch.setattr("guidance.assembly.forecast.clock_of", lambda device: clock)

    def explain(model: Any, images: torch.Tensor, request: Any) -> None:
        clock.time += 100 if not explained else 2
        torch.rand(())
        explained.append((len(images), request.rows.tolist(), request.depth))

    monkeypatch.setattr("guidance.assembly.forecast.explain", explain)
    batch, state = batch_of(3), torch.get_rng_state()
    seconds = EvaluationSeconds(
        model, ATTRIBUTIONS["ixg"], "mid1", CPU, images=60, annotated=0.5, most=2, processes=3
    )(batch)  # fmt: skip
    assert explained == [(2, [0], "mid1")] * 2
    assert seconds == 2 / 2 * 60 / 3
    assert torch.equal(torch.get_rng_state(), state)


def test_memory_is_that_of_the_process() -> None:
    memory, where = peak_memory(CPU)
    assert math.isfinite(memory)
    assert memory > 1e7
    assert "without loader workers" in where
    assert forecast.TIMED == 5
