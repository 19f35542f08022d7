"""What stays on the disk of finished runs, and what the plan says that they take."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest

from guidance.config import parse_config
from guidance.experiments import keeping
from guidance.experiments.estimates import training_splits
from guidance.experiments.jobs.execution import execute
from guidance.experiments.jobs.executors import debug_executor
from guidance.experiments.keeping import checkpoint_bytes, disk_of_runs, keep_best, prune, size
from guidance.experiments.overview import plan_table
from guidance.experiments.planning import Planned, prepare, refuse_changed, save
from guidance.runs import checkpoint
from guidance.runs.shedding import disk_use, is_shed
from tests.unit.experiments.pretended import BASE, Pretended, experiment, save_checkpoint

NAN = math.nan


@pytest.fixture
def pretended(tmp_path: Path) -> Pretended:
    """Of the last epoch the F1 is lower, so that `best` is the first."""
    pretended = Pretended(tmp_path / "pretended")
    for name in ("baseline/0000", "baseline/0001", "energy/0000", "energy/0001"):
        pretended.scores(name, 0.9, 0.1)
    return pretended


def finish(folder: Path, pretended: Pretended, keep: str) -> Planned:
    """All runs of two stages, one seed; `pareto.metrics` is F1 alone."""
    planned = refuse_changed(prepare(experiment(keep=keep, seeds=[0], set={"pareto.metrics": ["f1"]}), folder))
    save(planned)
    ended = execute(planned, debug_executor(folder / "logs/submitit"), pretended.work, names=list(planned.drawn))
    assert {outcome.kind for outcome in ended.values()} == {"finished"}
    return prepare(planned.experiment, folder)


@pytest.mark.parametrize(
    ("keep", "of_group"),
    [("all", ["epoch_0001", "epoch_0002"]), ("front", ["epoch_0001", "epoch_0002"]), ("best", ["epoch_0001"])],
)
def test_what_stays(tmp_path: Path, pretended: Pretended, keep: str, of_group: list[str]) -> None:
    """A stage keeps its front, and all stay finished, whatever is looked at or started again."""
    planned = finish(tmp_path / "experiment", pretended, keep)
    for name, item in planned.drawn.items():
        folder = planned.run_folder(name)
        stems = sorted(path.stem for path in (folder / "checkpoints/pareto").iterdir())
        assert stems == (of_group if item.run.group == "energy" else ["epoch_0001", "epoch_0002"])
        assert is_shed(checkpoint.load(folder / "checkpoints/last.pt")) == (keep != "all")
        assert planned.state(name).kind == "finished"
    assert refuse_changed(planned).plan() == planned.plan()
    before = disk_use(planned.folder / "runs")
    for name in planned.drawn:
        prune(planned, name)
    assert disk_use(planned.folder / "runs") == before


def test_what_was_shed_cannot_become_longer(tmp_path: Path, pretended: Pretended) -> None:
    planned = finish(tmp_path / "experiment", pretended, "front")
    longer = experiment(seeds=[0], set={"pareto.metrics": ["f1"], "trainer.epochs": 3})
    with pytest.raises(
        ValueError, match=r"baseline/0000: 2 epochs trained, 3 in the experiment; it cannot go on, because"
    ):
        refuse_changed(prepare(longer, planned.folder))


def test_a_run_in_use_or_damaged_is_kept_and_told(
    tmp_path: Path, pretended: Pretended, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = finish(tmp_path / "experiment", pretended, "all")
    planned = prepare(experiment(keep="best", seeds=[0], set={"pareto.metrics": ["f1"]}), planned.folder)

    def held(folder: Path) -> None:
        raise ValueError(f"{folder} is in use by process 1")

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(keeping, "lock_folder", held)
        prune(planned, "energy/0000")
    damaged = planned.run_folder("energy/0001") / "checkpoints/last.pt"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    prune(planned, "energy/0001")
    for name in ("energy/0000", "energy/0001"):
        assert f"{name} is kept as it is" in caplog.text
        assert len(list((planned.run_folder(name) / "checkpoints/pareto").iterdir())) == 2
    prune(planned, "energy/0000")
    assert len(list((planned.run_folder("energy/0000") / "checkpoints/pareto").iterdir())) == 1


def test_the_best_in_each_metric_by_its_direction(tmp_path: Path) -> None:
    """Of equals the earliest, NaN never; a second call, or a kill after any deletion, ends with the same."""
    values = {1: (0.5, 0.2), 2: (0.9, 0.7), 3: (0.9, 0.6), 4: (NAN, NAN), 5: (0.1, 0.1)}
    for epoch, (f1, sparsity) in values.items():
        save_checkpoint(tmp_path / f"epoch_{epoch:04d}.pt", epoch=epoch, f1=f1, sparsity=sparsity)
    for _ in range(2):
        keep_best(tmp_path, ["f1", "sparsity"])  # of which lower is better
        assert sorted(path.stem for path in tmp_path.iterdir()) == ["epoch_0002", "epoch_0005"]
    keep_best(tmp_path, ["epg"])
    assert len(list(tmp_path.iterdir())) == 2


def test_bytes_of_a_checkpoint() -> None:
    """A ResNet-18 of 3 classes: 11,178,051 parameters; 20 batch norms with 4,800 pairs of statistics and a counter each."""
    weights = 4 * (11_178_051 + 2 * 4_800) + 20 * 8
    parameters = 4 * 11_178_051
    assert checkpoint_bytes(parse_config(BASE), 3) == (weights, 2 * parameters + 62 * 4)  # a step counter each
    sgd = parse_config(BASE | {"optimizer": {"name": "sgd"}})
    assert checkpoint_bytes(sgd, 3) == (weights, parameters)


def test_the_plan_tells_the_disk(tmp_path: Path, pretended: Pretended, demo_root: Path) -> None:
    """Before any run a front of 3 is assumed, of at most as many as there are epochs; then what was found counts."""
    data = {"data.root": str(demo_root), "data.num_train": 26, "data.num_val": 10, "data.num_test": 11,
            "data.image_size": 32, "trainer.batch_size": 6, "trainer.epochs": 9}  # fmt: skip
    weights, optimizer = checkpoint_bytes(parse_config(BASE), 3)

    def planned(keep: str, **settings: object) -> Planned:
        return prepare(experiment(seeds=[0], keep=keep, set=data | settings), tmp_path / "experiment")

    def sizes(keep: str, **settings: object) -> list[tuple[float, float]]:
        what = planned(keep, **settings)
        return [
            tuple(disk) for disk in disk_of_runs(what, dict.fromkeys(what.drawn, False), training_splits()).values()
        ]

    whole = weights + optimizer
    assert sizes("all") == [(4 * weights + optimizer, whole)] * 4
    assert sizes("front") == [(4 * weights, 2 * whole - weights)] * 4
    one = {"pareto.metrics": ["f1"]}
    assert sizes("best", **one) == [(4 * weights, 2 * whole - weights)] * 2 + [(2 * weights, 2 * whole - weights)] * 2
    assert sizes("front", **{"trainer.epochs": 2})[0][0] == 3 * weights
    what = planned("front")
    text = plan_table(what, {name: what.state(name) for name in what.drawn}, slots=2)
    assert text.splitlines()[-1] == (
        "disk of the finished runs: about 716 MB (`keep: front`: weights only; `all` keeps what training for more epochs "
        "needs), and up to 447 MB more while they train"
    )
    front = what.run_folder("energy/0000") / "checkpoints/pareto"
    for epoch in (1, 2, 3, 4, 5):
        save_checkpoint(front / f"epoch_{epoch:04d}.pt", epoch=epoch, f1=0.5)
    (front.parents[1] / "log").write_bytes(b"x" * 1000)
    found = disk_of_runs(what, {"energy/0000": True}, training_splits())
    assert found["energy/0000"] == (disk_use(front.parents[1]), 0)
    assert found["energy/0001"].finished == found["baseline/0000"].finished == 6 * weights + 1000
    away = planned("front", **{"data.root": str(tmp_path / "none")})
    assert math.isnan(disk_of_runs(away, {}, training_splits())["energy/0001"].finished)
    assert [size(count) for count in (NAN, 900, 44.8e6, 134e6, 2.15e9, 3e12)] == [
        "unknown", "1 KB", "45 MB", "134 MB", "2.1 GB", "3.0 TB",
    ]  # fmt: skip
