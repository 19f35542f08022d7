"""Maps come from a thread of their own, with the numbers of an evaluation; and the command as a whole."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from guidance.annotating.document import EditedBox
from guidance.annotating.explaining import ClassMap, Explainer, ImageExplanation
from guidance.annotating.ordering import ImageScores
from guidance.annotating.worker import MapWorker
from guidance.assembly import build_trainer
from guidance.config import Config
from guidance.inference import Run, evaluate_run, load_run
from guidance.runs.locks import lock_folder
from tests.support.data.pictures import write_picture
from tests.support.runs import CPU
from tests.unit.results.html.browsing import wait
from tests.unit.tools.annotating.conftest import Served, ask, boxes_in, write_set
from tools import annotate

ROOT = Path(__file__).parents[4]


def test_the_worker(serve: Callable[..., Served]) -> None:
    """What is looked at comes first; what has changed is made again; what fails says why, and the thread goes on."""
    done: list[int] = []
    first, goes_on = threading.Event(), threading.Event()

    def explain(number: int) -> ImageExplanation:
        done.append(number)
        first.set()
        assert goes_on.wait(20)
        if number == 1:
            raise ValueError("cannot be read")
        if number == 2:
            raise RuntimeError("of the net")
        return ImageExplanation(
            (("cat", 0.5),), (ClassMap("cat", math.nan, 1.0, b"png"),), b"png", ImageScores(certainty=number)
        )

    worker = MapWorker(4, explain)
    served = serve(maps=worker)
    assert first.wait(20)
    assert worker.get(3) is None
    worker.forget(0)  # is being made: what comes of it is old
    goes_on.set()
    wait(lambda: worker.progress() == (4, 4))
    assert done == [0, 0, 3, 1, 2]
    assert worker.get(1) == "cannot be read"
    assert worker.get(2) == "RuntimeError: of the net"
    assert worker.known_scores() == {0: ImageScores(certainty=0), 3: ImageScores(certainty=3)}
    _, content, _ = ask(served, "/api/map/0")
    assert content["predictions"] == [["cat", 0.5]]
    assert content["maps"] == [{"name": "cat", "epg": None, "outside": 1.0, "picture": "data:image/png;base64,cG5n"}]
    assert ask(served, "/api/map/1")[1] == {"status": "failed", "why": "cannot be read"}
    revision = ask(served, "/api/image/0")[1]["revision"]
    ask(served, "/api/image/0", "PUT", {"revision": revision, "boxes": []})
    wait(lambda: done == [0, 0, 3, 1, 2, 0])
    worker.close()


def test_epg_is_that_of_the_evaluation(settings: Callable[..., Config], tmp_path: Path) -> None:
    build_trainer(settings(trainer={"epochs": 1}), tmp_path / "run", CPU).fit()
    run: Run = load_run(tmp_path / "run")
    evaluation = evaluate_run(run, "test")
    explainer = Explainer(run, [*run.classes[::-1], "a class of the set alone"])
    found = []
    for record in evaluation.source.records:
        back = len(run.classes) - 1
        boxes = [EditedBox(1, back - k, box) for box, k in zip(record.boxes, record.box_classes, strict=True)]
        each = explainer(record.path, boxes, [back - k for k in record.classes])
        assert [one.name for one in each.maps] == [run.classes[k] for k in record.classes]
        assert each.scores.epg == each.maps[0].epg
        assert each.predictions == tuple(sorted(each.predictions, key=lambda pair: -pair[1]))
        found.append(each.scores.epg)
    assert sum(found) / len(found) == pytest.approx(evaluation.metrics["epg"], abs=1e-5)
    record = evaluation.source.records[0]
    plain = explainer(record.path, [], [])
    assert plain.maps[0].name == plain.predictions[0][0]
    assert math.isnan(plain.scores.epg)
    assert 0 < plain.scores.certainty <= 1
    whole = explainer(record.path, [EditedBox(1, 0, (0, 0, 32, 32))], [])
    assert whole.scores.epg == pytest.approx(1)
    assert whole.scores.outside == pytest.approx(0, abs=1e-6)
    never = explainer(record.path, [EditedBox(1, 0, (0, 0, 32, 32)), EditedBox(2, 0, (0, 0, 32, 16), True)], [])
    assert never.scores.epg < 1
    with pytest.raises(ValueError, match="no class is in both"):
        Explainer(run, ["other"])


def test_a_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A link that leaves the folder is no image, also where it ends at one; nor is what cannot be read."""
    write_picture(tmp_path / "data/cat/1.png")
    (tmp_path / "data/cat/2.png").symlink_to(write_picture(tmp_path / "outside.png"))
    (tmp_path / "data/cat/3.png").symlink_to("/etc/hostname")
    for again in range(2):
        assert annotate.main([str(tmp_path / "data"), "--dry-run"]) == 0, again
        printed = capsys.readouterr().out.splitlines()
        assert printed[0] == f"1 images; boxes go to {tmp_path / 'data_annotated/annotations.json'}"
        assert printed[1] == "2 images are missing, or links out of the folder, and left out (first: cat/2.png)"
    assert annotate.main([str(tmp_path / "none"), "--dry-run"]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_the_command(tmp_path: Path) -> None:
    """It prints its address, holds its set, and a kill loses nothing that was saved."""
    root = write_set(tmp_path / "set")
    command = [sys.executable, "tools/annotate.py", root, "--classes", "cow"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = ""
    while "open http" not in printed:
        line = process.stdout.readline()
        assert line, printed
        printed += line
    assert printed.startswith(f"3 images; boxes go to {root / 'annotations.json'}\ntrain with --set data.name=custom")
    match = re.search(r"open http://127\.0\.0\.1:(\d+)/\?token=(\S{32})\n", printed)
    assert match is not None
    served = Served(root, None, int(match[1]))  # type: ignore[arg-type]
    assert ask(served, "/api/set")[0] == 403
    revision = ask(served, "/api/image/1", X_Token=match[2])[1]["revision"]
    box = {"key": None, "label": 2, "box": [1, 2, 3, 4], "never": False}
    status, _, _ = ask(served, "/api/image/1", "PUT", {"revision": revision, "boxes": [box]}, X_Token=match[2])
    assert status == 200
    with pytest.raises(ValueError, match=f"is in use by process {process.pid}"):
        lock_folder(root)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert [entry["bbox"] for entry in boxes_in(root, "deep/1.png")] == [[1, 2, 2, 2]]
    lock = lock_folder(root)
    assert lock is not None
    lock.close()
