"""metrics.jsonl: what is written, what is read back, and what is left of it after a kill and a resume."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from guidance.runs.logs import JsonLines
from guidance.runs.logs.json_lines import read_log


def test_one_object_per_line(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "run" / "metrics.jsonl")
    log.log(10, {"train/loss": 0.1, "epoch": 2, "f1": float("nan"), "epg": -math.inf, "iou": np.float32(0.5)})
    written = (tmp_path / "run" / "metrics.jsonl").read_text()  # before close: every line is flushed
    assert written == '{"step": 10, "train/loss": 0.1, "epoch": 2, "f1": null, "epg": null, "iou": 0.5}\n'
    log.close()


def test_numbers_are_written_exactly(tmp_path: Path) -> None:
    value = 0.1 + 0.2
    JsonLines(tmp_path / "x.jsonl").log(1, {"a": value})
    assert read_log(tmp_path / "x.jsonl")[0]["a"] == value


def test_resume_removes_what_will_be_logged_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = JsonLines(path)
    for step in (10, 20, 20, 30):
        log.log(step, {"loss": step / 100})
    log.close()
    path.write_text(path.read_text() + '{"step": 40, "lo')  # the kill came while this was written
    log = JsonLines(path, resume_step=20)
    assert [line["step"] for line in read_log(path)] == [10, 20, 20]
    log.log(30, {"loss": 0.5})
    log.close()
    assert [line["step"] for line in read_log(path)] == [10, 20, 20, 30]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]
    JsonLines(path, resume_step=0).close()
    assert path.read_text() == ""


def test_resume_without_a_file_and_start_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    JsonLines(path, resume_step=5).log(6, {"a": 1})
    assert read_log(path) == [{"step": 6, "a": 1}]
    JsonLines(path).log(1, {"a": 2})
    assert read_log(path) == [{"step": 1, "a": 2}]


@pytest.mark.parametrize("broken", ["oops", '{"loss": 1}', "[1]", '{"step": null}'])
def test_a_broken_line_in_the_middle_is_named(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{broken}\n{{"step": 2}}\n')
    with pytest.raises(ValueError, match=r"line 2 of .*metrics.jsonl is not a JSON object with a step"):
        JsonLines(path, resume_step=2)
    assert len(path.read_text().splitlines()) == 3


def test_damaged_bytes_of_a_line_stay_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    content = b'{"step": 1, "\xff": 2}\n'
    path.write_bytes(content + b'{"step": 2}\n')
    JsonLines(path, resume_step=1).close()
    assert path.read_bytes() == content


def test_a_kill_while_resuming_keeps_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        JsonLines(path, resume_step=1)
    assert len(read_log(path)) == 2


def test_what_is_read_is_what_was_logged(tmp_path: Path) -> None:
    """null is NaN again, numbers keep their types, and a last line that a kill cut short is not there."""
    path = tmp_path / "metrics.jsonl"
    JsonLines(path).log(3, {"f1": math.nan, "epoch": 2, "loss": 0.1})
    path.write_text(path.read_text() + '{"step": 4, "lo')
    (line,) = read_log(path)
    assert math.isnan(line.pop("f1"))
    assert line == {"step": 3, "epoch": 2, "loss": 0.1}
    path.write_text('oops\n{"step": 4}\n')
    with pytest.raises(ValueError, match=r"line 1 of .*metrics\.jsonl is not a JSON object with a step: 'oops'"):
        read_log(path)
