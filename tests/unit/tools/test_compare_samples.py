"""The command that compares two tables of per-sample scores, and the scatter plot that it draws."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from matplotlib import colors

from guidance.pictures.plots import RUN_COLOURS, plot_samples
from tools import compare_samples as tool

ROWS = [("a.png", "bird", "0.2"), ("b.png", "bird", "0.5"), ("b.png", "fish", "0.9"), ("c.png", "fish", "0.4")]
BETTER = [("b.png", "fish", "0.7"), ("a.png", "bird", "0.6"), ("b.png", "bird", "0.5"), ("c.png", "fish", "0.8")]


def write(path: Path, rows: list[tuple[str, ...]], columns: str = "image,class,epg") -> Path:
    path.write_text("\n".join([columns, *map(",".join, rows)]) + "\n")
    return path


def test_command_joins_counts_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Higher for a and c, lower for the fish of b, equal for its bird; the order of the rows does not matter."""
    output = tmp_path / "new" / "scatter.png"
    tables = [write(tmp_path / "plain.csv", ROWS), write(tmp_path / "aim.csv", BETTER)]
    arguments = ["--baseline", str(tables[0]), "--method", str(tables[1]), "--output", str(output)]
    assert tool.main(arguments) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["plain", "mean", "epg", "0.5000"]
    assert out[1].split() == ["aim", "mean", "epg", "0.6500"]
    assert out[2] == "aim is higher for 2 of 4 samples (50.0%), lower for 1, equal for 1"
    assert out[-1] == f"written to {output}, {output.with_suffix('.json')}"
    assert output.read_bytes().startswith(b"\x89PNG")
    assert tool.main([*arguments, "--names", "ResNet", "ResNet + AIM"]) == 0
    assert "ResNet + AIM is higher for 2 of 4" in capsys.readouterr().out


def test_what_is_in_one_table_only_or_has_no_score_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = "class,iou,image,seg_epg"
    first = [("bird", "0", "a", "0.1"), ("bird", "0", "b", ""), ("bird", "0", "c", "nan"), ("bird", "0", "d", "0.5")]
    second = [
        ("bird", "1", "a", "0.3"),
        ("bird", "1", "b", "0.2"),
        ("bird", "1", "c", "0.2"),
        ("fish", "1", "d", "0.2"),
    ]
    tables = [write(tmp_path / "x.csv", first, columns), write(tmp_path / "y.csv", second, columns)]
    arguments = ["--baseline", str(tables[0]), "--method", str(tables[1]), "--output", str(tmp_path / "o.png")]
    assert tool.main([*arguments, "--score", "seg_epg"]) == 0
    out = capsys.readouterr().out
    assert "higher for 1 of 1 samples" in out
    assert "4 samples are left out: they have no seg_epg, or are in one table only" in out  # b, c, and d twice
    assert tool.main([*arguments, "--score", "iou"]) == 0
    assert "higher for 3 of 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (ROWS, "image,class,iou", r"m.csv has no column 'epg'; it has image, class, iou. .* --per-sample"),
        (ROWS, "file,class,epg", r"has no column 'image'"),
        ([*ROWS, ROWS[1]], "image,class,epg", r"m.csv, line 6: image b.png, class bird occurs twice"),
        ([("a.png", "bird", "high")], "image,class,epg", r"m.csv, line 2: epg is 'high', not a number"),
        (
            [("z.png", "bird", "1")],
            "image,class,epg",
            r"no image and class in common; evaluate both nets on the same split",
        ),
        ([("a.png", "bird", "")], "image,class,epg", r"no image and class has a finite score in both"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[tuple[str, ...]], columns: str, message: str
) -> None:
    tables = [write(tmp_path / "b.csv", ROWS), write(tmp_path / "m.csv", rows, columns)]
    output = tmp_path / "o.png"
    assert tool.main(["--baseline", str(tables[0]), "--method", str(tables[1]), "--output", str(output)]) != 0
    captured = capsys.readouterr().err
    assert re.search(message, captured), captured
    assert not output.exists()


def test_empty_and_absent_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, empty = write(tmp_path / "b.csv", ROWS), tmp_path / "m.csv"
    empty.write_text("")
    assert tool.main(["--baseline", str(good), "--method", str(empty)]) != 0
    assert "has no column 'image'; it has none" in capsys.readouterr().err
    assert tool.main(["--baseline", str(good), "--method", str(tmp_path / "absent.csv")]) != 0
    assert "absent.csv" in capsys.readouterr().err


def test_points_lie_where_the_scores_say() -> None:
    figure = plot_samples([0.2, 0.5, 0.9, 0.4], [0.6, 0.5, 0.7, 0.8], "epg", names=("plain", "AIM"))
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("EPG of plain", "EPG of AIM")
    assert axes.get_title() == "EPG higher for 50.0 % of 4 samples"
    higher, lower, equal, means = axes.collections
    assert higher.get_offsets().tolist() == [[0.2, 0.6], [0.4, 0.8]]
    assert lower.get_offsets().tolist() == [[0.9, 0.7]]
    assert equal.get_offsets().tolist() == [[0.5, 0.5]]
    assert means.get_offsets().tolist() == [[pytest.approx(0.5), pytest.approx(0.65)]]
    assert colors.to_hex(higher.get_facecolor()[0]).upper() == RUN_COLOURS[0]
    assert colors.to_hex(lower.get_facecolor()[0]).upper() == RUN_COLOURS[1]
    (diagonal,) = axes.get_lines()
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["higher: 2", "lower: 1", "equal: 1", "means: 0.500, 0.650"]


def test_scores_beyond_one_and_many_points() -> None:
    (axes,) = plot_samples([-1.0, 4.0], [2.0, 3.0], "logit").axes
    assert axes.get_lines()[0].get_xydata().tolist() == [[-1, -1], [4, 4]]
    assert axes.get_ylabel() == "logit of method"
    few, many = (plot_samples([0.1] * n, [0.2] * n, "epg").axes[0].collections[0].get_alpha() for n in (10, 10_000))
    assert 0 < many < few <= 0.8


@pytest.mark.parametrize(("x", "y"), [([], []), ([0.1], [0.1, 0.2]), ([math.nan], [0.1]), ([0.1], [math.inf])])
def test_scores_must_match_and_be_finite(x: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError, match=f"finite scores .* got {len(x)} and {len(y)}"):
        plot_samples(x, y, "epg")
