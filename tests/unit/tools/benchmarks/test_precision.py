"""What the benchmark of precisions prints."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tools.benchmarks import precision


@pytest.mark.usefixtures("tiny_nets")
def test_precision_prints_a_row_of_each_family_and_precision(benchmark: Callable[..., str]) -> None:
    arguments = ["--family", "xdnn", "--batch", "1", "--size", "32"]
    printed = benchmark("precision", *arguments)
    lines = [line.strip("| ").split(" | ") for line in printed.splitlines() if line.startswith("| xdnn")]
    rows = {cells[1]: [float(cell) for cell in cells[2:]] for cells in lines}
    assert list(rows) == ["fp32", "bf16", "fp16"]
    assert {len(row) for row in rows.values()} == {8}
    assert all(0 < single < 0.01 < half < 100 for single, half in zip(rows["fp32"][:7], rows["bf16"][:7], strict=True))
    assert rows["fp32"][7] == 1
    lines = [line.strip("| ").split(" | ") for line in printed.splitlines() if line.startswith("| convnext_tiny")]
    masks = {cells[1]: [float(cell) for cell in cells[2:]] for cells in lines}
    assert list(masks) == list(rows)
    assert masks["fp32"][1] == 0  # no cell is another
    assert all(0 < masks["fp32"][i] < 0.01 < masks["bf16"][i] < 100 for i in (0, 2, 3))


def test_an_error_is_relative_to_what_is_exact() -> None:
    exact = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert precision.error(torch.tensor([3.0, 4.5]), exact) == pytest.approx(0.1)
    assert precision.error(exact.float(), exact) == 0
