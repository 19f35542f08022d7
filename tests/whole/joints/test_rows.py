"""Rows from outside that cannot work are refused where they are made, or before anything is trained."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from guidance.attribution import ATTRIBUTIONS, Explainable, Method, Request, explain, one_hot, run
from guidance.config import Config, parse_config
from guidance.config.fields import Section
from guidance.config.modes import MODES, Mode
from guidance.config.modes.guided import GUIDED
from guidance.losses import LOCALIZATION_LOSSES, Loss, energy
from guidance.models import BACKBONES
from guidance.objectives import Losses, Objective, Term
from tests.support.runs import build_tiny


def no_losses(*_: object) -> Losses:
    return Losses(None, {"seen": torch.tensor(1.0)})


def test_rows_say_what_they_may_hold() -> None:
    for row, message in (
        (lambda: Loss(energy, looks="outsdie"), "unknown place where a loss looks 'outsdie'"),  # type: ignore[arg-type]
        (lambda: Method(no_losses, one_gradient="sometimes"), "'never', 'homogeneous' or 'always'"),  # type: ignore[arg-type]
        (lambda: Term("x", no_losses, items="image"), "unknown items of the term x 'image'"),  # type: ignore[arg-type]
        (lambda: Term("x", no_losses, reduction="meen"), "reduction must be 'sum' or 'mean'"),  # type: ignore[arg-type]
        (lambda: Term("x", no_losses, items="batch", reduction="sum"), "its reduction must be 'mean'"),
        (lambda: replace(GUIDED, wrapping=lambda config, count: lambda net: net), "set both or none"),
        (lambda: Objective(build_tiny(3), []), "an objective needs different terms"),
    ):
        with pytest.raises(ValueError, match=message):
            row()


def test_an_objective_of_notes_alone_is_told_of() -> None:
    from tests.support.objectives import batch_of

    objective = Objective(build_tiny(3), [Term("watch", no_losses)])
    batch = batch_of(2)
    batch = batch._replace(images=torch.rand(2, 3, 8, 8))
    with pytest.raises(ValueError, match="no term of this objective gave a loss, only notes: watch"):
        objective(batch, objective.counts(batch))


def test_options_of_a_row_are_its_own(settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a section has a setting of that name, which belongs to other rows."""
    seen: list[dict[str, object]] = []

    def own(attribution: Tensor, mask: Tensor, *, alpha: float, weight: float) -> Tensor:
        seen.append({"alpha": alpha, "weight": weight})
        return energy(attribution, mask)

    from guidance.assembly.objectives import build_localization

    monkeypatch.setitem(LOCALIZATION_LOSSES, "own", Loss(own, looks="both", options={"alpha": 2.0, "weight": 7.0}))
    localization = {"loss": "own", "weight": 0.3, "options": {"weight": 5}}
    config = settings(objective={"classification": "cross_entropy", "localization": localization})
    build_localization(config)(torch.rand(1, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool))
    assert seen == [{"alpha": 2.0, "weight": 5}]
    for value, shown in (("five", "'five'"), (True, "True"), (float("inf"), "inf")):
        localization["options"] = {"weight": value}
        with pytest.raises(ValueError, match=f"weight of own is a float, such as 7.0, not {shown}"):
            settings(objective={"classification": "cross_entropy", "localization": localization})
    with pytest.raises(ValueError, match=r"set alpha as objective\.localization\.alpha instead"):
        settings(objective={"localization": {"loss": "energy_star", "options": {"alpha": 1.0}}})


def test_the_defaults_of_a_row_are_what_runs(settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    def constant(model: Explainable, request: Request, *, value: int) -> Tensor:
        return torch.full((len(request.rows), 2, 2), float(value))

    row = Method(constant, "Constant", options={"value": 4})
    monkeypatch.setitem(ATTRIBUTIONS, "constant", row)
    images, rows = torch.rand(1, 3, 64, 64), torch.zeros(1, dtype=torch.long)
    model = BACKBONES["resnet18"].build(3).eval()
    for method, value in (("constant", 4), (row, 4), (row.bind({"value": 9}), 9)):
        assert explain(model, images, Request(method, "final", rows, one_hot(rows, 3))).maps[0, 0, 0] == value
    doubled = row.bind({"value": 5}).wrapped(
        lambda model, request: 2 * run(row.bind({"value": 5}), model, request), "Doubled"
    )
    assert explain(model, images, Request(doubled, "final", rows, one_hot(rows, 3))).maps[0, 0, 0] == 10
    config = settings(
        objective={"classification": "cross_entropy", "attribution": {"method": "constant", "options": {"value": 8}}},
        evaluation={"attribution": {"depth": "final"}},
    )
    assert config.evaluated_attribution.options == {"value": 8}
    guided = {"classification": "cross_entropy", "attribution": {"method": "constant", "options": {"value": 8}}}
    config = settings(evaluation={"attribution": {"method": "ixg"}}, objective=guided)
    assert config.evaluated_attribution.options == {}


def test_a_section_that_cannot_be_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Demanding(Section):
        weight: float

    for name, section in (("strict", Demanding), ("data", Section), ("guides", Section)):
        with monkeypatch.context() as patch:
            patch.setitem(MODES, name, Mode(GUIDED.objective, section=section))
            with pytest.raises(ValueError, match=f"the training mode '{name}' of MODES cannot be used"):
                parse_config({"data": {"name": "demo"}})


def test_a_config_can_be_pickled_and_is_one_by_itself() -> None:
    config = parse_config({"data": {"name": "demo"}, "seed": 5})
    again = pickle.loads(pickle.dumps(config))
    assert again == config
    assert isinstance(again, Config)
    content = {"data": {"name": "demo", "root": "x"}, "model": {"name": "resnet18"}}
    assert Config.model_validate(content).model.name == "resnet18"


def test_classes_that_compete_belong_to_the_maps() -> None:
    model, images = BACKBONES["resnet18"].build(3).eval(), torch.rand(1, 3, 64, 64)
    rows = torch.zeros(1, dtype=torch.long)
    with pytest.raises(ValueError, match=r"classes must be \[M, C\] for the 1 maps, but have the shape \[7\]"):
        explain(
            model, images, Request("ixg", "final", rows, one_hot(rows, 3), classes=torch.zeros(7, dtype=torch.long))
        )
