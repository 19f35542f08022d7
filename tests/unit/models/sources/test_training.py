"""Nets by name in whole runs: trained, resumed, evaluated and exported; checkpointing, compilation, AIM, processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import get_model

from guidance.assembly import build_classifier, build_trainer
from guidance.attribution import ATTRIBUTIONS, CompiledNet, Request, attribute, check_compilable, one_hot
from guidance.attribution.compiled import TRACEABLE
from guidance.config import Config
from guidance.inference import evaluate_checkpoint, load_run
from guidance.models import build_model
from guidance.runs import checkpoint
from guidance.types import Forward
from tests.support.processes import run_processes
from tests.support.runs import CPU, assert_same, tiny_config
from tools import export

OWN = "tests.unit.models.sources.own"
GUIDED = {"attribution": {"depth": "final"}}


def short(root: Path, name: str, **sections: dict[str, Any]) -> Config:
    """An epoch of four steps."""
    quick = {"schedule": {"name": "constant"}, "log": {"probe_images": 0, "tensorboard": False, "every": 1}}
    model = {"name": name} | sections.pop("model", {})
    trainer = {"epochs": 1, "checkpoint_every": None} | sections.pop("trainer", {})
    return tiny_config(root, model=model, trainer=trainer, **(quick | sections))


def trained(root: Path, folder: Path, name: str, **sections: dict[str, Any]) -> dict[str, Any]:
    """The last checkpoint of a run."""
    trainer = build_trainer(short(root, name, **sections), folder, CPU)
    trainer.fit()
    trainer.log.close()
    return checkpoint.load(folder / "checkpoints/last.pt")


@pytest.mark.parametrize("name", ["Pyramid", "Loose", "Untraceable"])
def test_checkpointed_activations_change_nothing(name: str, demo_root: Path, tmp_path: Path) -> None:
    """Also where a part of the net that is run again holds batch norms, but is no layer."""
    plain, again = (
        trained(
            demo_root, tmp_path / str(on), f"{OWN}:{name}", objective=GUIDED, trainer={"checkpoint_activations": on}
        )
        for on in (False, True)
    )
    assert_same(plain["model"], again["model"])


def test_runs_are_found_again_and_go_on(demo_root: Path, tmp_path: Path) -> None:
    state = trained(demo_root, tmp_path / "run", f"{OWN}:with_depths", objective={"attribution": {"depth": "late"}})
    run = load_run(tmp_path / "run")
    assert run.config.model.name == f"{OWN}:with_depths"
    assert run.model.depths == ("input", "early", "late")
    found = evaluate_checkpoint(tmp_path / "run", "val")
    assert found["accuracy"] == pytest.approx(state["metrics"]["accuracy"])
    assert found["epg"] == pytest.approx(state["metrics"]["epg"])
    config = short(demo_root, f"{OWN}:with_depths", objective={"attribution": {"depth": "late"}}, trainer={"epochs": 2})
    build_trainer(config, tmp_path / "run", CPU, resume=True).fit()
    assert checkpoint.load(tmp_path / "run/checkpoints/last.pt")["epoch"] == 2


@pytest.mark.parametrize("masking", ["top_down", "bottom_up"])
def test_aim_masks_the_stages_of_any_pyramid(masking: str, demo_root: Path) -> None:
    """What the net is left without has no weights; what masks look at is as wide as the stages."""
    objective = {"mode": "aim", "attribution": {"depth": "final"}}
    for name in ("Pyramid", "Loose"):
        config = short(
            demo_root, f"{OWN}:{name}", objective=objective, aim={"masking": masking, "stop_stage": 1, "mask_width": 4}
        )
        model = build_classifier(config, 4, pretrained=False)
        out = model(torch.rand(2, 3, 32, 32))
        assert list(out.masks) == (["stage1", "stage2"] if name == "Pyramid" else ["stage1"])
        out.logits.sum().backward()
        unused = [key for key, x in model.named_parameters() if x.grad is None]
        heads = {"top_down": ("heads.stage",), "bottom_up": ()}[masking]  # of the auxiliary losses
        assert [key for key in unused if not key.startswith(tuple(f"net.{head}" for head in heads))] == []
    untraceable = short(demo_root, f"{OWN}:Untraceable", objective=objective, aim={"masking": masking})
    with pytest.raises(ValueError, match="aim cannot mask final of this net: it is not known that all of it passes"):
        build_classifier(untraceable, 4, pretrained=False)


@pytest.mark.parametrize(
    ("name", "sections", "message"),
    [
        ("Pyramid", {}, "trainer.compile: this net has no pullback to depth 'input'"),
        ("Untraceable", {}, "trainer.compile: the features of this net at mid1, mid2, final are recorded by hooks"),
        ("Untraceable", {"objective": {"localization": {"weight": 0}}}, "are recorded by hooks"),
    ],
)
def test_what_cannot_be_compiled_says_why(
    name: str, sections: dict[str, Any], message: str, demo_root: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        build_trainer(
            short(demo_root, f"{OWN}:{name}", trainer={"compile": True}, **sections), tmp_path / "run", CPU
        ).fit()


@pytest.mark.skipif(not TRACEABLE, reason="torch 2.6 cannot trace how a net is explained")
def test_a_net_with_pullbacks_is_compiled() -> None:
    """A ResNet of torchvision with frozen norms: a loss on maps of its compiled form has the gradient of the plain one."""
    model = build_model("torchvision/resnet18", num_classes=3, batchnorm="frozen").train()
    check_compilable(model, (3, 32, 32), ATTRIBUTIONS["ixg"], "mid3")
    images, rows = torch.rand(3, 3, 32, 32), torch.tensor([0, 2])
    request = Request("ixg", "mid3", rows, one_hot(torch.tensor([1, 2]), 3), create_graph=True, rounds=1)

    def gradients(out: Forward) -> Tensor:
        loss = attribute(model, replace(request, out=out)).square().sum()
        found = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
        return torch.cat([x.flatten() for x in found])

    plain = gradients(model(images.requires_grad_()))
    compiled = gradients(CompiledNet(model, backend="eager")(images, request=request))
    assert plain.abs().max() > 0
    torch.testing.assert_close(compiled, plain)


def weights_after(root: Path, folder: Path, name: str, sections: dict[str, Any]) -> dict[str, Any]:
    trainer = build_trainer(short(root, name, **sections), folder, CPU)
    trainer.fit()
    return {key: x.clone() for key, x in trainer.objective.model.state_dict().items()}


def everything(root: Path, folder: Path) -> dict[str, dict[str, Any]]:
    sync = {"model": {"batchnorm": "sync"}, "optimizer": {"name": "sgd", "lr": 0.01}, "objective": GUIDED}
    aim = {"mode": "aim", "attribution": {"depth": "final"}, "localization": {"weight": 0.1}}
    masked = sync | {"objective": aim, "aim": {"stop_stage": 1, "width": 8, "mask_width": 4}}
    return {
        **{name: weights_after(root, folder / name, f"{OWN}:{name}", sync) for name in ("Pyramid", "Untraceable")},
        "aim": weights_after(root, folder / "aim", f"{OWN}:Loose", masked),
    }


def test_two_processes_equal_one(demo_root: Path, tmp_path: Path) -> None:
    """Wrapped nets in stages and run as a whole, and AIM around one, with statistics of the global batch."""
    found = {n: run_processes(n, tmp_path / f"{n}", everything, demo_root, tmp_path / f"runs{n}") for n in (1, 2)}
    (alone,) = found[1]
    for process in found[2]:
        for name, weights in alone.items():
            for key, expected in weights.items():
                torch.testing.assert_close(process[name][key], expected, rtol=1e-4, atol=2e-6, msg=f"{name} {key}")


def test_plain_weights_are_those_of_torchvision(demo_root: Path, tmp_path: Path) -> None:
    """As the file beside them says."""
    name = "torchvision/shufflenet_v2_x0_5"
    trained(demo_root, tmp_path / "run", name, objective=GUIDED)
    assert export.main([str(tmp_path / "run"), "--to", "torchvision"]) == 0
    content = json.loads((tmp_path / "run/export.pth.json").read_text())
    net = get_model(content["architecture"], **content["torchvision_options"]).eval()
    net.load_state_dict(torch.load(tmp_path / "run/export.pth", weights_only=True), strict=True)
    run, images = load_run(tmp_path / "run"), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(net(images), run.model(images).logits)
