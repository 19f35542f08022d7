"""What a run prints: on a terminal, into a file, from several processes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from guidance import progress
from guidance.data import generate_demo
from guidance.progress import Progress
from tests.support.processes import run_forked, start_forked
from tests.whole.test_end_to_end import ROOT, command, train


@pytest.fixture(scope="module")
def broken_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo set with one image that cannot be decoded; its header is whole."""
    root = tmp_path_factory.mktemp("data") / "demo"
    generate_demo(root, num_train=40, num_val=10, num_test=11, image_size=32)
    path = root / "images/train/00003.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return root


def test_an_error_of_one_process_is_told_once_and_last(broken_root: Path, tmp_path: Path) -> None:
    """The others do not add their tracebacks (nor anything, if torchrun ends them first); torchrun ends with the reason."""
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
    # What all processes find alike is told once.
    again = [*train(broken_root, tmp_path / "again"), "data.check=pixels"]
    done = run_forked(again, cwd=ROOT, output=tmp_path / "printed", processes=2)
    assert done.returncode == 2
    assert len(re.findall("error: demo train: unreadable images", done.stderr)) == 1
    assert not (tmp_path / "again").exists()


def test_bars_are_for_terminals(broken_root: Path, tmp_path: Path) -> None:
    """A file of logs gets lines; on a terminal an error begins on a line of its own."""
    skipped = [*train(broken_root, tmp_path / "skipped"), "data.on_error=skip"]
    done = run_forked(skipped, cwd=ROOT, output=tmp_path / "printed")
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) < 12
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    for name in ("out", "err"):
        (tmp_path / f"terminal.{name}").symlink_to(os.ttyname(slave))
    arguments = [*train(broken_root, tmp_path / "raised"), "data.check=headers"]
    process = start_forked(arguments, cwd=ROOT, output=tmp_path / "terminal")
    seen = b""
    while select.select([master], [], [], 120)[0]:
        if seen and slave:  # the other end is open there, and closes when the process ends
            os.close(slave)
            slave = 0
        try:
            seen += os.read(master, 4096)
        except OSError:  # it is closed
            break
    process.join(120)
    assert process.exitcode == 2
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
