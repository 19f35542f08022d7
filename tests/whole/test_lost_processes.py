"""What a run does when it loses a worker or another process, or is started wrongly."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance import distributed
from guidance.assembly import build_trainer
from guidance.config import Config
from guidance.data import GuidanceDataset
from guidance.data.workers import naming_killed_workers
from guidance.distributed import LostProcessError, check_launcher, process_group
from guidance.runs import checkpoint

CPU = torch.device("cpu")
Make = Callable[..., Config]


def test_a_killed_worker_is_named_with_its_likely_cause(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel does when memory runs out."""
    parent, get = os.getpid(), GuidanceDataset.__getitem__

    def dying(self: GuidanceDataset, key: tuple[int, int]) -> Any:
        if os.getpid() != parent and key[0] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return get(self, key)

    monkeypatch.setattr(GuidanceDataset, "__getitem__", dying)
    trainer = build_trainer(settings(data={"num_workers": 1}), tmp_path / "run", CPU)
    with pytest.raises(
        ValueError, match=r"^a loader worker .*was killed, .* memory .* data\.num_workers, .* --resume$"
    ):
        trainer.fit()
    assert checkpoint.load(tmp_path / "run/checkpoints/last.pt")["step"] == 4
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            r"a loader worker \(pid 7\) was killed, most",
        ),
        (
            RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"),
            r"a loader worker \(pid 7, 8\) was killed, most",
        ),
        (
            ConnectionResetError(104, "Connection reset by peer"),
            "a loader worker was killed, most likely because memory",
        ),
        (EOFError(), "a loader worker was killed, most likely because memory"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated. "),
            r"\(pid 7\) was ended by SIGTERM, which",
        ),
        (BrokenPipeError(32, "Broken pipe"), None),
        (RuntimeError("shapes"), None),
    ],
)
def test_what_torch_says_of_a_lost_worker(error: Exception, told: str | None) -> None:
    """It depends on what the main process did at that moment."""
    with pytest.raises(ValueError if told else type(error), match=told) as caught, naming_killed_workers("try again"):
        raise error
    assert str(caught.value).endswith("try again") == bool(told)


def test_tasks_that_do_not_know_of_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        monkeypatch.delenv(name, raising=False)
    check_launcher()
    monkeypatch.setenv("SLURM_NTASKS", "2")  # as in a batch script, or by salloc
    check_launcher()
    assert "SLURM has reserved 2 tasks, but this process runs alone" in caplog.text
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "2")  # srun, or mpirun, has started this process twice
            with pytest.raises(ValueError, match=f"{name}=2, but this process does not know of the others.* torchrun"):
                check_launcher()
            patch.setenv("WORLD_SIZE", "2")  # torchrun did
            caplog.clear()
            check_launcher()
            assert caplog.text == ""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Connection closed by peer [10.0.0.2]:4321", "another process has ended"),
        ("NCCL error: remote process exited or there was a network error", "another process has ended"),
        ("[gloo] Timed out waiting 1800000ms for send operation to complete", "another process did not answer in time"),
        ("NCCL error: invalid usage. Duplicate GPU detected", None),
        ("peer access is not supported between these two devices", None),
    ],
)
def test_only_a_lost_process_is_called_one(said: str, told: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_initialized", lambda: True)
    with pytest.raises(RuntimeError if told is None else LostProcessError) as caught, process_group("cpu"):
        raise RuntimeError(f"{said}\nmore")
    assert str(caught.value) == f"{said}\nmore" if told is None else str(caught.value).endswith(f"({said})")
    assert str(caught.value).startswith(told or said)
