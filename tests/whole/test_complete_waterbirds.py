"""The whole of Waterbirds, 11,788 images with the faults of the official boxes, through every command of the pages for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidance.runs.logs.json_lines import read_log
from guidance.runs.paths import METRICS
from tests.support.data.layouts import write_text
from tests.whole.docs.test_commands import COMMANDS, ROOT, SHARED, smaller

HEIGHT, WIDTH = 33, 50
# split -> (group -> images), as published for Waterbirds-100; groups are (bird, place)
SPLITS = {
    0: {(0, 0): 3682, (1, 1): 1113},
    1: {(0, 0): 467, (0, 1): 466, (1, 0): 133, (1, 1): 133},
    2: {(0, 0): 2255, (0, 1): 2255, (1, 0): 642, (1, 1): 642},
}
OUT = {0: 10, 1: 4, 2: 16}  # boxes that stick out, as in the official ones


def make_waterbirds(root: Path) -> Path:
    """Small pictures in the official layout: boxes that stick out of each split, one empty and one inverted."""
    folder = root / "waterbird_1.0_forest2water2"
    rng = np.random.default_rng(0)
    rows, boxes, number = ["img_id,img_filename,y,split,place,place_filename"], [], 0
    for split, groups in SPLITS.items():
        first = number
        for (bird, place), count in groups.items():
            for _ in range(count):
                number += 1
                name = f"{number % 200 + 1:03d}.Bird/Bird_{number:05d}.jpg"
                colour = np.array([60 + 120 * place, 90, 60 + 90 * bird])
                pixels = (colour + rng.integers(-20, 20, (HEIGHT, WIDTH, 3))).clip(0, 255).astype(np.uint8)
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / name)
                rows.append(f"{number},{name},{bird},{split},{place},/x/y.jpg")
                x, y, w, h = 5.0, 4.0, 30.0, 20.0
                if number - first <= OUT[split]:
                    w = 46.0 + 10 * (number - first)  # some by far more than 2 % of the side
                boxes.append(f"{number} {x} {y} {w} {h}")
    boxes[99] = "100 5.0 4.0 0.0 20.0"
    boxes[199] = "200 35.0 4.0 -30.0 20.0"
    write_text(folder / "metadata.csv", "\n".join(rows) + "\n")
    write_text(root / "CUB_200_2011" / "bounding_boxes.txt", "\n".join(boxes) + "\n")
    return root


@pytest.mark.long
def test_every_command_for_waterbirds_runs_to_its_end_on_the_complete_set(tmp_path: Path) -> None:
    data = make_waterbirds(tmp_path / "waterbirds")
    project = tmp_path / "project"
    project.mkdir()
    for name in ("configs", "launch", "tools"):
        (project / name).symlink_to(ROOT / name)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    commands = [c for c in COMMANDS if "waterbirds100_" in c]
    assert len(commands) >= 4  # two trainings, a resumed one, an evaluation
    texts = []
    for command in commands:
        words = smaller(command, project)
        words = [word.replace("../shared/data/waterbirds100", str(data)) for word in words if word != "--dry-run"]
        if "aim" in command:
            words += ["data.image_size=32", "trainer.batch_size=120", "trainer.epochs=1"]
        done = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        texts.append(done.stderr)
    assert not SHARED.is_dir() or str(SHARED) not in " ".join(texts)
    log = texts[0]
    assert "waterbirds train: boxes clipped at the border (10)" in log
    assert "waterbirds val: boxes clipped at the border (4)" in log
    assert "left out: waterbirds train: boxes of zero size (2)" in log
    run = project / "runs/waterbirds100_resnet18_energy"
    epochs = read_log(run / METRICS)
    last = [line for line in epochs if "epoch" in line][-1]
    assert (last["val/clipped"], last["val/skipped"]) == (4, 0)
    assert (last["train/clipped"], last["train/skipped"]) == (10, 2)
    results = [json.loads(path.read_text()) for path in (run / "results").glob("last.test.*.json")]
    assert {result["settings"]["attribution"] for result in results} == {"ixg", "gradcam"}
    assert all(result["metrics"]["clipped"] == 16 for result in results)
    # Without the permission to leave anything out, the two faults are told at once, before the first step.
    words = smaller(commands[0], project)
    words = [word.replace("../shared/data/waterbirds100", str(data)) for word in words]
    done = subprocess.run(
        [*words, "data.on_error=raise", "--dry-run", "--output", str(project / "runs/raise")],
        cwd=project, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "waterbirds train: boxes of zero size (2)" in done.stderr
    assert "epoch 1" not in done.stdout + done.stderr
    assert "every stage works" not in done.stdout
