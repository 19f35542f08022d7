"""The table of all benchmarks, and the profile of where time goes."""

from __future__ import annotations

import argparse
import re

import pytest
import torch

from tools.benchmarks import data, evaluation, loop, operations, step, table


def test_the_table_holds_each_ratio_with_its_goal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From times that are made up: the double backward is compared in its faster layout, each row with its own reference."""
    monkeypatch.setattr(
        step, "measure_times", lambda chosen, args: {v: 8.0 if v.default_layout else 1.0 + len(str(v)) for v in chosen}
    )
    kinds = [evaluation.Timed("bcos", "forward"), evaluation.Timed("bcos", "mid2", at_most=2.2)]
    monkeypatch.setattr(evaluation, "measure", lambda args: dict(zip(kinds, (2.0, 5.0), strict=True)))
    speeds = {"decoded: sample": 10.0, "cached: sample": 40.0, "decoded: segmented": 4.0, "cached: segmented": 50.0}
    monkeypatch.setattr(data, "measure", lambda *args, **options: [("birds", None, speeds)])
    lines = [{"time/epoch": 10.0, "time/evaluation": 0.5}] * 2
    monkeypatch.setattr(loop, "measure", lambda args: loop.Measured("2 batches", lines, [4.0, 5.0]))
    args = argparse.Namespace(
        family=["bcos"], compile=True, batch=None, size=None, images_from=None, images=3, rounds=1
    )
    table.benchmark_table(args)
    rows = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in capsys.readouterr().out.splitlines()[2:]]
    unguided, guided = 1.0 + len("bcos unguided"), 1.0 + len("bcos guided at input")
    compiled, both = guided + len(", compiled"), unguided + len(", compiled")
    assert ("step, bcos guided at input / unguided", f"{guided / unguided:.2f}x", "") in rows
    double = "double backward, in its faster layout / step, bcos guided at input"
    assert (double, f"{8 / guided:.2f}x", "") in rows
    assert (f"{double}, compiled", f"{8 / compiled:.2f}x", "at least 2.20x") in rows
    assert ("step, bcos guided at input, compiled / unguided", f"{compiled / unguided:.2f}x", "at most 1.30x") in rows
    assert (
        "step, bcos guided at input, compiled / unguided, compiled",
        f"{compiled / both:.2f}x",
        "at most 1.85x",
    ) in rows
    assert ("evaluation, bcos, mid2 / forward", "2.50x", "at most 2.20x") in rows
    assert ("data, birds, segmented: cached / decoded", "12.5x", "at least 10x") in rows
    assert rows[-1] == ("run, an epoch without its evaluation / its steps alone", "1.125x", "at most 1.03x")
    assert not any("lens" in what or "checkpointed" in what for what, *_ in rows)


def test_a_profile_tells_arithmetic_from_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    a = torch.rand(200, 200)
    of = operations.shares(lambda: (a @ a).exp(), device="cpu")
    assert sum(of.values()) == pytest.approx(1)
    assert operations.arithmetic(of) == pytest.approx(
        sum(share for name, share in of.items() if name in ("mm", "matmul"))
    )
    assert 0 < operations.arithmetic(of) < 1
    assert "exp" in of
    args = argparse.Namespace(family=["xdnn"], batch=2, size=32, threads=1, device="cpu", compile=False)
    operations.benchmark_profile(args)
    lines = capsys.readouterr().out.splitlines()
    for name in ("unguided", "guided at the input", "evaluation at the input"):
        (line,) = [line for line in lines if line.startswith(f"xdnn, {name}: convolutions and matrix products ")]
        assert re.search(r"products \d+\.\d%; \w+ \d+\.\d%, ", line)
