"""What is handed to SLURM, as text; who gets which GPU; which checkpoints are evaluated."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import submitit

from guidance.config import dump_config, parse_config
from guidance.experiments.definition.schema import EvaluatedSettings
from guidance.experiments.estimates import expected_pace
from guidance.experiments.evaluation import missing
from guidance.experiments.jobs.executors import JOBS, debug_executor, local_executor, slurm_executor
from guidance.experiments.jobs.work import Work
from guidance.progress import duration
from guidance.runs.settings import flatten
from tests.unit.experiments.pretended import BASE, save_checkpoint

NAN = float("nan")


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


def test_the_script_for_slurm(tmp_path: Path, slurm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs of two nodes each, two at a time."""
    scripts: list[str] = []

    def submit(self: Any, command: str) -> Any:
        scripts.append(self._make_submission_file_text(command, "x"))
        return submitit.SlurmJob(tmp_path, "31", tasks=[0, 1])

    monkeypatch.setattr(submitit.SlurmExecutor, "_submit_command", submit)
    parameters = {"time": 240, "partition": "gpu", "nodes": 2, "gpus_per_node": 4, "mem": "64GB", "account": "x"}
    executor = slurm_executor(tmp_path, parameters=parameters, slots=2)
    works = [Work(f"g/000{i}", Path("run"), Path("log"), ["train.py"]) for i in range(3)]
    jobs = executor.submit(works)
    assert [job.job_id for job in jobs] == ["31_0", "31_1", "31_2"]
    lines = scripts[0].splitlines()
    for line in (
        "array=0-2%2", "nodes=2", "ntasks-per-node=1", "gpus-per-node=4", "partition=gpu", "time=240", "mem=64GB", "account=x",
        "signal=USR2@150", "open-mode=append",
    ):  # fmt: skip
        assert f"#SBATCH --{line}" in lines, line
    assert any(line.startswith("srun ") and "submitit.core._submit" in line for line in lines)
    pickled = [submitit.helpers.DelayedSubmission.load(job.paths.submitted_pickle) for job in jobs]
    assert [delayed.function.name for delayed in pickled] == ["g/0000", "g/0001", "g/0002"]
    assert pickled[0]._timeout_countdown == 1000  # requeues after as many time limits
    assert json.loads((tmp_path / JOBS).read_text()) == {
        work.name: job.job_id for work, job in zip(works, jobs, strict=True)
    }


def test_jobs_of_an_earlier_start_are_found_again(
    tmp_path: Path, slurm: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    executor = slurm_executor(tmp_path, parameters={})
    assert executor.adopt() == {}
    (tmp_path / JOBS).write_text('{"g/0000": "31_0", "g/0001": "31_1"}')
    monkeypatch.setattr(submitit.SlurmJob, "done", lambda self: self.job_id == "31_0")
    jobs = executor.adopt()
    assert {name: job.job_id for name, job in jobs.items()} == {"g/0001": "31_1"}
    assert executor.stop(jobs) is False
    assert "scancel --signal=TERM 31_1" in capsys.readouterr().out


def test_what_slurm_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"srun.*Without --slurm the runs are executed on this machine"):
        slurm_executor(tmp_path, parameters={})
    monkeypatch.setattr(shutil, "which", lambda name: name)
    with pytest.raises(ValueError, match=r"Unavailable parameter\(s\): \['memory'\]"):
        slurm_executor(tmp_path, parameters={"memory": 1})


def test_without_submitit_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    for executor in (lambda: local_executor(tmp_path, slots=1), lambda: debug_executor(tmp_path)):
        with pytest.raises(ValueError, match=r"pip install -e \.\[sweeps\]"):
            executor()


def test_who_gets_which_gpu_and_how_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = local_executor(tmp_path, slots=2, gpus=["4", "GPU-b", "6", "7"], gpus_per_run=2).environments
    assert found == [{"CUDA_VISIBLE_DEVICES": "4,GPU-b"}, {"CUDA_VISIBLE_DEVICES": "6,7"}]
    with pytest.raises(ValueError, match=r"2 run\(s\) at a time with 2 GPU\(s\) each need 4, but there are 3"):
        local_executor(tmp_path, slots=2, gpus=["0", "1", "2"], gpus_per_run=2)
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert [slot["OMP_NUM_THREADS"] for slot in local_executor(tmp_path, slots=3).environments] == ["2"] * 3
    assert local_executor(tmp_path, slots=1).environments == [{"CUDA_VISIBLE_DEVICES": ""}]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert "OMP_NUM_THREADS" not in local_executor(tmp_path, slots=3).environments[0]


def test_what_is_still_to_be_evaluated(tmp_path: Path) -> None:
    """Two checkpoints on two splits, and once more with another attribution; one of these has a result already."""
    config = parse_config(BASE)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    for epoch in (1, 2):
        save_checkpoint(tmp_path / f"checkpoints/pareto/epoch_{epoch:04d}.pt", epoch=epoch, f1=1.0)
    wanted = [
        EvaluatedSettings(splits=["val", "test"]),
        EvaluatedSettings.model_validate({"set": {"evaluation.attribution.depth": "final"}, "refit": True}),
    ]

    def lacking() -> list[tuple[str, str, bool]]:
        return [(m.checkpoint.stem, m.split, m.refit) for m in missing(tmp_path, wanted)]

    first = [(f"epoch_000{i}", split, False) for i in (1, 2) for split in ("val", "test")]
    second = [(f"epoch_000{i}", "test", True) for i in (1, 2)]
    assert lacking() == first + second
    flat = {k: v for k, v in flatten(config.model_dump(mode="json")).items() if not k.startswith("log.")}
    (tmp_path / "results").mkdir()

    def write(name: str, **settings: Any) -> None:
        content = {"split": "test", "iou_threshold_from": "as set", "config": flat} | settings
        (tmp_path / f"results/{name}.json").write_text(json.dumps({"metrics": {}, "settings": content}))

    write("epoch_0001.test.aaaaaaaa")
    assert lacking() == [item for item in first if item != ("epoch_0001", "test", False)] + second
    write("epoch_0001.test.aaaaaaaa", config=flat | {"evaluation.blur": 3.0})
    assert lacking() == first + second
    refitted = flat | {"evaluation.attribution.depth": "final", "evaluation.iou_threshold": "fit"}
    write("epoch_0002.test.bbbbbbbb", config=refitted, iou_threshold_from="fitted on val")
    assert lacking() == first + second
    write("epoch_0002.test.bbbbbbbb", config=refitted, iou_threshold_from="fitted on val, for this")
    assert lacking() == first + second[:1]
    assert missing(tmp_path, []) == []


def test_durations() -> None:
    seconds = (0, 59, 60, 3599, 3600 * 3 + 1200, 3600 * 53, NAN)
    assert [duration(value) for value in seconds] == [
        "0 s",
        "59 s",
        "1 min",
        "1 h 0 min",
        "3 h 20 min",
        "2 d 5 h",
        "unknown",
    ]
    assert expected_pace(2.0, [4.0], [8.0]) == 2.0
    assert expected_pace(NAN, [4.0, NAN, 6.0], [8.0]) == 5.0
    assert expected_pace(NAN, [NAN], [8.0, NAN]) == 8.0
    assert expected_pace(NAN, [], [NAN]) != expected_pace(NAN, [], [NAN])
