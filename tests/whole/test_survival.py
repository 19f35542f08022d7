"""What a run does when it is stopped, loses a worker or another process, or is started wrongly; and what it then prints."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance import distributed, progress
from guidance.assembly import build_trainer
from guidance.config import Config
from guidance.data import GuidanceDataset, generate_demo
from guidance.data.reading import decode
from guidance.data.reading.decode import read_image
from guidance.data.workers import naming_killed_workers
from guidance.distributed import LostProcessError, check_launcher, process_group
from guidance.models import aim
from guidance.progress import Progress
from guidance.runs import checkpoint
from guidance.training.signals import StoppedWaitingError, StopRequest
from tests.support import objectives as make
from tests.support.pictures import write_picture
from tests.support.runs import assert_same, snapshot
from tests.whole.test_end_to_end import ROOT, command, train

CPU = torch.device("cpu")
Make = Callable[..., Config]

# --- killed workers, and data that do not come ------------------------------------------------------------------------


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


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stop_request_does_not_wait_for_data_for_ever(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """A worker hangs in the second epoch; what was done is saved, and the run goes on exactly where it was."""
    monkeypatch.setattr(StopRequest.__init__, "__defaults__", (0.5,))
    config = settings(data={"num_workers": workers}, trainer={"checkpoint_every": None})
    build_trainer(config, tmp_path / "whole", CPU).fit()
    get, calls = GuidanceDataset.__getitem__, [0]

    def hanging(self: GuidanceDataset, key: tuple[int, int]) -> Any:
        calls[0] += self.training and key[0] == 1
        if calls[0] > 8:  # in the second batch of six
            if workers == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            else:  # as one that waits for a network file system: only SIGKILL ends it
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(60)
        return get(self, key)

    monkeypatch.setattr(GuidanceDataset, "__getitem__", hanging)
    trainer = build_trainer(config, tmp_path / "stopped", CPU)
    if workers:
        main = os.getpid()
        killer = subprocess.Popen([sys.executable, "-c", (
            "import os, signal, sys, time\nfrom pathlib import Path\n"
            "while not Path(sys.argv[1]).exists(): time.sleep(0.05)\n"
            f"time.sleep(1); os.kill({main}, signal.SIGTERM)"
        ), str(tmp_path / "stopped/checkpoints/pareto/epoch_0001.pt")])  # fmt: skip
    start = time.monotonic()
    assert trainer.fit() is False
    assert time.monotonic() - start < 40
    if workers:
        killer.wait()
        for worker in multiprocessing.active_children():
            worker.join(10)
            assert worker.exitcode == -signal.SIGKILL
    monkeypatch.setattr(GuidanceDataset, "__getitem__", get)
    assert checkpoint.load(tmp_path / "stopped/checkpoints/last.pt")["step"] == 5
    assert build_trainer(config, tmp_path / "stopped", CPU, resume=True).fit()
    assert_same(snapshot(tmp_path / "stopped"), snapshot(tmp_path / "whole"))


def test_no_decoder_takes_a_stop_for_a_fault_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without workers the alarm rings wherever the main process is: also in the middle of an image."""

    def slow(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)

    path = write_picture(tmp_path / "x.bmp")
    monkeypatch.setattr(decode, "_to_rgb", slow)
    with StopRequest(0.2).listening() as stop, pytest.raises(StoppedWaitingError), stop.waiting():
        read_image(path)


def test_a_stop_request_ends_an_evaluation_that_takes_too_long(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StopRequest.__init__, "__defaults__", (0.3,))
    config = settings()
    build_trainer(config, tmp_path / "whole", CPU).fit()
    trainer = build_trainer(config, tmp_path / "stopped", CPU)
    evaluate = trainer.evaluate

    def slow(step: int) -> dict[str, float]:
        if step == 8:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        return evaluate(step)

    trainer.evaluate = slow
    start = time.monotonic()
    assert trainer.fit() is False
    assert time.monotonic() - start < 20
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert build_trainer(config, tmp_path / "stopped", CPU, resume=True).fit()
    assert_same(snapshot(tmp_path / "stopped"), snapshot(tmp_path / "whole"))


def test_a_stop_request_ends_the_preparation_of_data_at_once(tmp_path: Path) -> None:
    """Here while twenty thousand pictures are drawn; nothing is written that another start would trip over."""
    root = tmp_path / "data" / "demo"
    arguments = [*train(root, tmp_path / "run"), "data.num_train=20000"]
    process = subprocess.Popen(
        command(*arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not root.parent.is_dir() or not list(root.parent.glob(".demo-*")):
        assert process.poll() is None
        time.sleep(0.05)
    start = time.monotonic()
    process.terminate()
    text, _ = process.communicate(timeout=30)
    assert time.monotonic() - start < 5
    assert process.returncode == -signal.SIGTERM
    assert "Traceback" not in text
    assert not root.exists()
    assert not (tmp_path / "run").exists()


def test_a_step_is_finished_however_long_it_takes(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StopRequest.__init__, "__defaults__", (0.1,))
    trainer = build_trainer(settings(), tmp_path / "run", CPU)
    step = trainer._train_step

    def slow(*args: Any) -> None:
        if trainer.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.6)
        step(*args)

    trainer._train_step = slow  # type: ignore[method-assign]
    assert trainer.fit() is False
    assert checkpoint.load(tmp_path / "run/checkpoints/last.pt")["step"] == 5


# --- what is printed --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broken_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo set with one image that cannot be decoded; its header is whole."""
    root = tmp_path_factory.mktemp("data") / "demo"
    generate_demo(root, num_train=40, num_val=10, num_test=11, image_size=32)
    path = root / "images/train/00003.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return root


def test_an_error_of_one_process_is_told_once_and_last(broken_root: Path, tmp_path: Path) -> None:
    """The others do not add their tracebacks; torchrun ends with the reason."""
    arguments = [*train(broken_root, tmp_path / "run"), "data.check=headers"]
    done = subprocess.run(
        command(*arguments, processes=2), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1
    own, _, of_torchrun = done.stderr.partition("torch/distributed/elastic")
    assert "Traceback" not in own
    message = "error: image .*00003.png cannot be read .*; replace or remove the file"
    assert len(re.findall(message, own)) == 1
    assert re.search(f"traceback : {message}", of_torchrun)
    assert re.search("error: another process has ended, and so this one does", done.stderr)
    # What all processes find alike is told once.
    again = command(*train(broken_root, tmp_path / "again"), "data.check=pixels", processes=2)
    done = subprocess.run(again, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    own = done.stderr.partition("torch/distributed/elastic")[0]
    assert len(re.findall("error: demo train: unreadable images", own)) == 1
    assert not (tmp_path / "again").exists()


def test_bars_are_for_terminals(broken_root: Path, tmp_path: Path) -> None:
    """A file of logs gets lines; on a terminal an error begins on a line of its own."""
    arguments = command(*train(broken_root, tmp_path / "skipped"), "data.on_error=skip")
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    assert "\r" not in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) < 12
    arguments = command(*train(broken_root, tmp_path / "raised"), "data.check=headers")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = subprocess.Popen(arguments, cwd=ROOT, stdin=slave, stdout=slave, stderr=slave, close_fds=True)
    os.close(slave)
    seen = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        seen += part
    assert process.wait() == 2
    text = seen.decode()
    assert "epoch 1/2" in text
    last = re.split(r"[\r\n]+", text.strip())[-1]
    assert last.startswith("error: image ")


def test_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 25))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with Progress("epoch 1/2", 9, unit="batch", initial=1) as bar:
        bar.note({"loss": "0.5"})
        for _ in range(8):
            bar.update()
    # The clock goes on by 25 seconds each time it is asked; a line comes when more than 60 have gone.
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1/2: 4 of 9, loss 0.5", "epoch 1/2: 7 of 9, loss 0.5"
    ]  # fmt: skip
    with Progress("x", 9, unit="batch", shown=False) as bar:
        assert list(bar.track("abc")) == ["a", "b", "c"]
    assert bar.done == 3
    assert capsys.readouterr().err == ""


# --- wrong starts -----------------------------------------------------------------------------------------------------


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


# --- masks that collapse ----------------------------------------------------------------------------------------------


def test_masks_that_collapse_are_told_of_once() -> None:
    from guidance.models import Wrapping, build_model

    model = build_model("resnet18", num_classes=2, wrapping=Wrapping(lambda plain: aim.build_aim(
        plain, (64, 128, 256, 512), first_stage=1, stop_stage=3, num_classes=2), aim.LAYOUT))  # fmt: skip
    assert isinstance(model, aim.MaskedClassifier)
    objective = make.masking(model)
    values = {"train/active/stage3": 0.25, "train/active/stage4": 0.021, "val/sparsity/stage3": 0.2, "val/f1": 0.0,
              "val/sparsity": 0.01}  # fmt: skip
    assert objective.advise(values) == []
    (told,) = objective.advise(values | {"train/active/stage4": 0.012})
    assert told.startswith(
        "the masks of stage4 collapse: 1.2 % of their cells are active in training. Raise aim.threshold"
    )
    (told,) = objective.advise(values | {"train/active/stage4": 0.0, "val/sparsity/stage3": 0.0})
    assert told.startswith("the masks of stage3 collapse: 0.0 % of their cells are active in evaluation")
    assert objective.advise(values | {"train/active/stage4": 0.0, "val/sparsity/stage3": 0.0}) == []
    wanted = make.masking(model, threshold=0.015)
    assert wanted.advise(values | {"train/active/stage4": 0.016}) == []  # what was asked for
    assert len(wanted.advise(values | {"train/active/stage4": 0.007})) == 1
