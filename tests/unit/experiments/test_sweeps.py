"""All runs of an experiment in their order, with submitit's local and debug executors; the trainings only pretend."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import yaml

from guidance.experiments.definition.schema import Experiment
from guidance.experiments.jobs.execution import SweepInterruptedError, execute
from guidance.experiments.jobs.executors import Executor, debug_executor, local_executor
from guidance.experiments.outcomes import FINISHED, Outcome
from guidance.experiments.overview import ending, plan_table
from guidance.experiments.planning import Planned, prepare, refuse_changed, save
from guidance.results.plan_file import read_plan
from tests.unit.experiments.pretended import TWO_STAGES, Pretended, experiment

ALL = [f"{group}/{i:04d}" for group in ("baseline", "energy") for i in range(4)]


@pytest.fixture
def pretended(tmp_path: Path) -> Pretended:
    return Pretended(tmp_path / "pretended")


def start(folder: Path, pretended: Pretended, executor: Executor, what: Experiment | None = None) -> dict[str, Outcome]:
    """As launch/sweep.py does it."""
    planned = refuse_changed(prepare(what or experiment(), folder))
    save(planned)
    finished = [name for name in planned.drawn if planned.state(name).kind == FINISHED]
    names = [name for name in planned.drawn if name not in finished]
    return execute(planned, executor, pretended.work, names=names, finished=finished)


def local(folder: Path, slots: int = 2) -> Executor:
    return local_executor(folder / "logs/submitit", slots=slots, gpus=["5", "6", "7", "8"], gpus_per_run=2)


def kinds(ended: dict[str, Outcome]) -> dict[str, str]:
    return {name: outcome.kind for name, outcome in sorted(ended.items())}


def test_a_shared_stage_is_trained_once_and_its_best_is_started_from(tmp_path: Path, pretended: Pretended) -> None:
    """Of seed 0 the second learning rate is best after its first epoch, of seed 1 both are the same. Nothing is done twice."""
    pretended.scores("baseline/0002", 0.9, 0.1)
    folder = tmp_path / "experiment"
    assert kinds(start(folder, pretended, local(folder))) == dict.fromkeys(ALL, "finished")
    names = [line.split()[0] for line in pretended.started]
    assert sorted(names) == [name.replace("/", "_") for name in ALL]
    assert {line.split()[2] for line in pretended.started} == {"5,6", "7,8"}
    plan = read_plan(folder)
    chosen = [
        ("baseline/0002", "runs/baseline/0002/checkpoints/pareto/epoch_0001.pt"),
        ("baseline/0001", "runs/baseline/0001/checkpoints/pareto/epoch_0001.pt"),
    ] * 2
    assert [(run.start, str(run.weights)) for run in plan.of("energy")] == chosen
    stored = [yaml.safe_load((run.folder / "config.yaml").read_text()) for run in plan.of("energy")]
    assert [config["model"]["weights"] for config in stored] == [str(folder / path) for _, path in chosen]
    assert start(folder, pretended, local(folder)) == {}
    assert len(pretended.started) == 8


def test_one_that_fails_does_not_stop_the_rest(
    tmp_path: Path, pretended: Pretended, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stage of seed 1 diverges, so what starts from it is not started; the other seed goes on, with a killed run in it."""
    pretended.behave("baseline/0003", "diverge")
    pretended.behave("energy/0000", "killed")
    folder = tmp_path / "experiment"
    ended = start(folder, pretended, debug_executor(folder / "logs/submitit"))
    assert kinds(ended) == dict.fromkeys(ALL, "finished") | {
        "baseline/0003": "failed", "energy/0000": "failed", "energy/0001": "not started", "energy/0003": "not started",
    }  # fmt: skip
    planned = prepare(experiment(), folder)
    told = ending(planned, ended)
    assert told.splitlines()[0] == "4 finished, 2 failed, 2 not started"
    assert "baseline/0003 failed: the loss is not finite at step 1: total. (exit code 2)" in told
    assert f"  log: {folder}/logs/baseline/0003.log" in told
    assert "energy/0001 was not started: it starts from baseline/0003, which failed" in told
    assert "energy/0000: failed: it was ended by SIGKILL" in capsys.readouterr().out
    pretended.behave("baseline/0003", "")
    assert set(kinds(start(folder, pretended, local(folder))).values()) == {"finished"}
    assert "energy_0000 1" in [
        line.rpartition(" ")[0] for line in pretended.started
    ]  # it went on with the second epoch


def test_ctrl_c_leaves_everything_resumable(tmp_path: Path, pretended: Pretended) -> None:
    for name in ALL[:2]:
        pretended.behave(name, "slow")
    folder = tmp_path / "experiment"
    logs = [folder / "runs" / name / "metrics.jsonl" for name in ALL[:2]]

    def press() -> None:
        while not all(log.exists() for log in logs):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(SweepInterruptedError):
        start(folder, pretended, local(folder))
    planned = prepare(experiment(), folder)
    found = {name: planned.state(name) for name in ALL}
    assert [(state.kind, state.epoch) for state in found.values()] == [("interrupted", 1)] * 2 + [("new", 0)] * 6
    assert "interrupted at epoch 1 of 2" in plan_table(planned, found)
    for name in ALL[:2]:
        pretended.behave(name, "")
    assert set(kinds(start(folder, pretended, local(folder))).values()) == {"finished"}
    assert [line.split()[1] for line in pretended.started].count("1") == 2


def test_a_job_that_ends_without_a_word_has_failed(tmp_path: Path, pretended: Pretended) -> None:
    """Its process was killed, not only the training."""
    folder = tmp_path / "experiment"
    pretended.behave("baseline/0000", "slow")
    what = experiment(groups={}, seeds=[0])
    pids = tmp_path / "pretended/started"

    def kill() -> None:
        while not pids.exists():
            time.sleep(0.02)
        for path in (folder / "logs/submitit").glob("*_log.out"):
            controller = int(path.name.split("_")[0])
            children = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
            for child in children:
                training = Path(f"/proc/{child}/task/{child}/children").read_text().split()
                for pid in (child, *training):
                    os.kill(int(pid), signal.SIGKILL)

    if not Path("/proc/self/task").exists():
        pytest.skip("this system does not list the children of a process")
    threading.Thread(target=kill).start()
    ended = start(folder, pretended, local(folder, slots=1), what)
    assert kinds(ended) == {"baseline/0000": "failed", "baseline/0001": "finished"}
    assert "without a word" in ended["baseline/0000"].remark


def test_a_checkpoint_that_cannot_be_read_does_not_stop_the_rest(tmp_path: Path, pretended: Pretended) -> None:
    folder = tmp_path / "experiment"

    def swept() -> dict[str, Outcome]:
        return start(folder, pretended, debug_executor(folder / "logs/submitit"), experiment(groups={}, seeds=[0]))

    pretended.behave("baseline/0000", "damaged")
    ended = swept()
    assert kinds(ended) == {"baseline/0000": "failed", "baseline/0001": "finished"}
    last = folder / "runs/baseline/0000/checkpoints/last.pt"
    assert f"{last} is truncated or corrupt" in ended["baseline/0000"].remark
    with pytest.raises(ValueError, match=r"truncated or corrupt.*Delete it"):
        swept()
    pretended.behave("baseline/0000", "")
    last.unlink()
    (last.parent.parent / "epoch").unlink()
    assert kinds(swept()) == {"baseline/0000": "finished"}


def trained(folder: Path, pretended: Pretended) -> Planned:
    """An experiment that is finished, in one process."""
    planned = prepare(experiment(), folder)
    for name in planned.drawn:
        if planned.drawn[name].candidates:
            from guidance.experiments.planning import with_weights

            planned = with_weights(planned, name)
        assert pretended.work(planned, name)().kind == "finished"
    save(planned)
    return planned


def test_changed_runs_are_refused_before_anything_starts(tmp_path: Path, pretended: Pretended) -> None:
    folder = tmp_path / "experiment"
    trained(folder, pretended)
    refuse_changed(prepare(experiment(set={"data.root": "/moved"}), folder))
    changed = experiment(TWO_STAGES.replace("loss: energy", "loss: l1"), set={"trainer.batch_size": 8})
    with pytest.raises(ValueError, match="these runs were trained with other settings") as told:
        refuse_changed(prepare(changed, folder))
    lines = str(told.value).splitlines()
    assert lines[1] == "  baseline/0000: trainer.batch_size: 64 in the folder, 8 in the experiment"
    assert "objective.localization.loss: energy in the folder, l1 in the experiment" in lines[5]
    assert len([line for line in lines if line.startswith("  ")]) == 8
    assert len(pretended.started) == 8


def test_another_choice_of_the_stage_is_refused(tmp_path: Path, pretended: Pretended) -> None:
    """A learning rate is added to the baseline, and it is better. Where nothing has started from it, it is taken."""
    folder = tmp_path / "experiment"
    trained(folder, pretended)
    more = experiment(TWO_STAGES.replace("[1.0e-3, 1.0e-4]", "[1.0e-3, 1.0e-4, 1.0e-5]"))
    for name in ("baseline/0004", "baseline/0005"):
        pretended.scores(name, 0.9, 0.9)
        assert pretended.work(prepare(more, folder), name)().kind == "finished"
    with pytest.raises(ValueError, match="it was started from runs/baseline/0000/") as told:
        refuse_changed(prepare(more, folder))
    assert "the stage baseline now gives runs/baseline/0004/checkpoints/pareto/epoch_0001.pt (f1 0.9000" in str(
        told.value
    )
    assert str(told.value).startswith("energy/0000, energy/0002: ")
    import shutil

    shutil.rmtree(folder / "runs/energy")
    found = refuse_changed(prepare(more, folder))
    assert found.drawn["energy/0001"].run.start == "baseline/0005"


def test_the_plan_tells_state_steps_and_time(tmp_path: Path, pretended: Pretended, demo_root: Path) -> None:
    """The demo set has 26 training images: 4 steps of an epoch of batches of 6."""
    folder = tmp_path / "experiment"
    data = {"data.root": str(demo_root), "data.num_train": 26, "data.num_val": 10, "data.num_test": 11,
            "data.image_size": 32, "trainer.batch_size": 6}  # fmt: skip
    what = experiment(set=data, seeds=[0])
    planned = prepare(what, folder)
    lines = plan_table(planned, {name: planned.state(name) for name in planned.drawn}).splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["run", "settings", "seed", "from", "state", "steps", "to", "go", "time", "disk"],
        ["baseline/0000", "lr", "0.001", "0", "-", "new", "8", "unknown", "134", "MB"],
    ]  # fmt: skip
    assert lines[3].split() == ["energy/0000", "weight", "0.0005", "0", "baseline", "new", "8", "unknown", "134", "MB"]
    assert lines[-2] == "4 runs, 32 steps to go, time unknown until the first run"
    done = pretended.work(planned, "baseline/0000")()
    pace = done.seconds / 2
    lines = plan_table(planned, {name: planned.state(name) for name in planned.drawn}, slots=2).splitlines()
    assert lines[1].split()[5:8] == ["finished", "0", "0"]
    assert lines[-2] == f"4 runs, 24 steps to go, about {24 * pace / 2:.0f} s, 2 at a time"
    planned = prepare(experiment(set=data | {"data.root": str(tmp_path / "none")}, seeds=[0]), folder)
    lines = plan_table(planned, {"energy/0000": planned.state("energy/0000")}).splitlines()
    assert lines[-1] == f"steps and disk are unknown: the data are not at {tmp_path / 'none'}"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("scale", "how"), [("full", "published as"), ("small", "a small variant of")])
def test_the_plan_says_which_rows_of_papers_the_groups_are(tmp_path: Path, scale: str, how: str) -> None:
    content = yaml.safe_load(TWO_STAGES)
    content["groups"]["energy"]["published"] = ["paper/row", "paper/another"]
    planned = prepare(experiment(yaml.safe_dump(content), scale=scale), tmp_path)
    told = f"energy is {how} paper/row, paper/another (docs/papers.yaml)"
    assert plan_table(planned, {name: planned.state(name) for name in planned.drawn}).splitlines()[-1] == told
    assert "paper" not in plan_table(planned, {"baseline/0000": planned.state("baseline/0000")})
