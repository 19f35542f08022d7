"""What the commands share: arguments, exit codes, and how a mistake is told."""

from __future__ import annotations

import errno
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from guidance import cli
from guidance.distributed import ToldError


def fails(error: Exception) -> int:
    def command() -> None:
        raise error

    return cli.run(command)


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert (cli.run(lambda: None), cli.run(lambda: 1)) == (0, 1)
    assert capsys.readouterr().err == ""
    assert fails(ValueError("what to do")) == 2
    assert fails(OSError(errno.ENOSPC, "no space")) == 2
    assert fails(ToldError("told by another process")) == 2
    assert capsys.readouterr().err == f"error: what to do\nerror: [Errno {errno.ENOSPC}] no space\n"
    with pytest.raises(KeyError):
        fails(KeyError("a mistake of ours"))


def test_a_traceback_is_shown_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUIDANCE_TRACEBACK", "1")
    with pytest.raises(ValueError, match="what to do"):
        fails(ValueError("what to do"))


def test_torchrun_learns_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    fails(ValueError("what to do"))
    message = json.loads((tmp_path / "error.json").read_text())["message"]
    assert (message["message"], message["errorCode"]) == ("what to do", 2)
    assert message["extraInfo"]["py_callstack"] == "error: what to do"


def test_arguments() -> None:
    parser = cli.build_parser("A\n  text.", abbreviations=False)
    cli.add_overrides(parser, purpose=" to try with")
    cli.add_device(parser)
    args = parser.parse_args(["--set", "a=1", "b=2", "--set", "c=3", "--device", "cpu"])
    assert (args.set, args.device) == (["a=1", "b=2", "c=3"], "cpu")
    assert parser.parse_args([]).set == []
    assert "A\n  text." in parser.format_help()
    assert "change config values to try with" in parser.format_help()
    for wrong in (["--device", "tpu"], ["--dev", "cpu"]):
        with pytest.raises(SystemExit):
            parser.parse_args(wrong)


@pytest.mark.parametrize(("rank", "level"), [(None, logging.INFO), ("0", logging.INFO), ("1", logging.ERROR)])
def test_the_main_process_speaks(rank: str | None, level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    chosen = {}
    monkeypatch.setattr(logging, "basicConfig", lambda **settings: chosen.update(settings))
    cli.set_up_logging()
    assert chosen["level"] == level
    assert cli.is_main_process() == (rank != "1")


@pytest.mark.parametrize("rank", ["0", "1"])
def test_ctrl_c_says_how_to_go_on(
    rank: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, where a command can go on; else it is none of our business."""

    def command() -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("RANK", rank)
    assert cli.run(command, interrupted="the same command goes on") == 130
    assert capsys.readouterr().err == ("interrupted; the same command goes on\n" if rank == "0" else "")
    with pytest.raises(KeyboardInterrupt):
        cli.run(command)


PROMPT = ["launch/train.py", "launch/evaluate.py", "launch/sweep.py", "tools/report.py", "tools/select_pareto.py",
          "tools/show_masks.py", "tools/show_lens.py", "tools/compare_samples.py", "tools/benchmarks/aim_cost.py",
          "tools/export.py"]  # fmt: skip


def test_help_does_not_wait_for_torch() -> None:
    """All in one process: what one of them imports would stay for the others, and be found."""
    code = f"""
import runpy, sys
for path in {PROMPT}:
    sys.argv = [path, "--help"]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as ended:
        assert ended.code == 0, path
    assert "torch" not in sys.modules, path
"""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == len(PROMPT)
