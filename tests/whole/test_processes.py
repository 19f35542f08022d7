"""The number of processes changes nothing: losses, weights, metrics. Each world size is started once for all scenarios."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from guidance.data import generate_demo
from guidance.models.layers.normalization import SyncBatchNorm2d
from tests.support.processes import run_processes
from tests.support.runs import assert_same
from tests.support.scenarios import AIM_SCENARIOS, SCENARIOS, everything


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """World size -> what each of its processes found."""
    folder = tmp_path_factory.mktemp("processes")
    generate_demo(folder / "demo", num_train=40, num_val=9, num_test=10, image_size=32)
    return {n: run_processes(n, folder / str(n), everything, folder / "demo") for n in (1, 2, 3)}


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("scenario", [*SCENARIOS, *AIM_SCENARIOS])
def test_losses_and_weights_do_not_depend_on_processes(
    results: Mapping[int, list[dict[str, Any]]], scenario: str, world_size: int
) -> None:
    alone = results[1][0][scenario]
    assert len(alone["losses"]) == 3
    if scenario in AIM_SCENARIOS:
        settings = AIM_SCENARIOS[scenario][0]
        assert any("localization" in step for step in alone["losses"]) == ("weight" in settings)
        assert any("mask_localization" in step for step in alone["losses"]) == ("mask_weight" in settings)
        own = {"threshold/stage1": 0.65, "threshold/stage2": 0.75} if "threshold" in settings else {"threshold": 0.65}
        for step in alone["losses"]:
            assert {name: value for name, value in step.items() if name.startswith("threshold")} == pytest.approx(own)
        assert 0 < alone["losses"][0]["active/stage1"] < 1
    else:
        annotated = "none annotated" not in scenario
        assert any("localization" in step for step in alone["losses"]) == annotated
    for process in results[world_size]:
        for expected, found in zip(alone["losses"], process[scenario]["losses"], strict=True):
            assert found.keys() == expected.keys()
            for term in expected:
                assert found[term] == pytest.approx(expected[term], rel=1e-9, abs=1e-12), term
        for name, expected in alone["weights"].items():
            torch.testing.assert_close(process[scenario]["weights"][name], expected, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("batchnorm", ["frozen", "sync"])
def test_whole_runs_do_not_depend_on_processes(results: Mapping[int, list[dict[str, Any]]], batchnorm: str) -> None:
    """The losses of every step, through the entry point."""
    alone, many = (results[n][0][f"run {batchnorm}"] for n in (1, 2))
    steps = [line for line in alone if "step/lr" in line]
    assert len(steps) == 3
    for line, other in zip(steps, many, strict=False):
        for name in ("step/classification", "step/localization"):
            assert other.get(name) == pytest.approx(line.get(name), rel=1e-9)


@pytest.mark.parametrize("batchnorm", ["frozen", "sync", "local"])
@pytest.mark.parametrize("world_size", [1, 2])
def test_stored_metrics_are_those_of_the_stored_weights(
    results: Mapping[int, list[dict[str, Any]]], batchnorm: str, world_size: int
) -> None:
    """Also with local statistics, which differ between the processes until the main process's are given to all."""
    for process in results[world_size]:
        *_, epoch, again = process[f"run {batchnorm}"]
        assert epoch["epoch"] == 1
        stored = {name.removeprefix("val/"): value for name, value in epoch.items() if name.startswith("val/")}
        assert_same(stored, again)


def test_local_statistics_are_the_exception(results: Mapping[int, list[dict[str, Any]]]) -> None:
    """The comparison above can fail: guidance changes the losses, and reductions differ."""
    first = results[1][0]
    assert first["sync sum"]["losses"] != first["frozen sum"]["losses"]
    assert first["frozen sum"]["losses"] != first["frozen mean"]["losses"]


def test_evaluation_is_identical_for_any_number_of_processes(results: Mapping[int, list[dict[str, Any]]]) -> None:
    """10 images in batches of 2: neither 2 nor 3 processes divide the 5 batches."""
    alone = results[1][0]["evaluation"]
    assert alone["epg"] > 0
    for world_size in (2, 3):
        for process in results[world_size]:
            assert {k: repr(v) for k, v in process["evaluation"].items()} == {k: repr(v) for k, v in alone.items()}


def test_sync_batchnorm_equals_torch_on_one_process() -> None:
    reference, ours = nn.BatchNorm2d(5).double(), SyncBatchNorm2d(5).double()
    with torch.no_grad():
        reference.weight.normal_()
        ours.load_state_dict(reference.state_dict())
    x = (torch.randn(4, 5, 3, 2).double() * 3 + 7).requires_grad_()
    for _ in range(2):
        torch.testing.assert_close(ours(x), reference(x))
    torch.testing.assert_close(ours.state_dict(), reference.state_dict())
    functions = [partial(torch.autograd.functional.vhp, lambda x, f=f: (f(x) ** 3).sum()) for f in (ours, reference)]
    direction = torch.randn_like(x)
    torch.testing.assert_close(functions[0](x, direction)[1], functions[1](x, direction)[1])
    torch.testing.assert_close(ours.eval()(x), reference.eval()(x))
