"""launch/sweep.py with real trainings: one is killed and goes on, one diverges; the shipped experiments and templates."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from guidance.config import check_processes
from guidance.data import generate_demo
from guidance.experiments.definition.reading import load_experiment
from guidance.experiments.expansion import expand, parse_configs
from guidance.runs import checkpoint
from guidance.runs.shedding import shed
from launch import sweep
from tests.support.processes import locked_elsewhere, run_forked
from tests.support.runs import assert_same, snapshot
from tests.whole.experiments.forking import forking_python

ROOT = Path(__file__).parents[3]
EXPERIMENTS = sorted((ROOT / "configs/experiments").rglob("*.yaml"))
SMALL = {
    "data.num_train": 40, "data.num_val": 10, "data.num_test": 11, "data.image_size": 32, "data.num_workers": 0,
    "data.signs": "shapes",
    "trainer.epochs": 2, "trainer.batch_size": 8, "trainer.checkpoint_every": 2, "log.every": 1, "log.probe_images": 0,
    "log.tensorboard": False, "trainer.device": "cpu", "model.name": "resnet8",
}  # fmt: skip


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """A run that will be killed, and one whose learning rate is much too high."""
    generate_demo(tmp_path / "data", num_train=40, num_val=10, num_test=11, image_size=32)
    content = {
        "base": str(ROOT / "configs/demo.yaml"), "set": SMALL | {"data.root": str(tmp_path / "data")},
        "groups": {"killed": {}, "diverging": {"set": {"optimizer.lr": 1e30}}}, "evaluate": {"splits": ["test"]},
    }  # fmt: skip
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return tmp_path / "two.yaml"


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What trainings are started with, which saves their imports; the evaluations are modules, and start as ever."""
    with forking_python() as folder:
        monkeypatch.setattr(sys, "executable", str(folder / "python"))
        yield


def kill_in_the_second_epoch(folder: Path) -> None:
    log = folder / "metrics.jsonl"
    while not (log.exists() and '"step": 7' in log.read_text()):
        time.sleep(0.005)
    os.kill(json.loads((folder / ".lock").read_text())["pid"], signal.SIGKILL)


@pytest.mark.usefixtures("forked")
def test_a_killed_run_goes_on_bit_by_bit_and_a_diverging_one_stops_nothing(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    command = [str(experiment), "--output", str(output), "--debug"]
    killer = threading.Thread(target=kill_in_the_second_epoch, args=(output / "runs/killed/0000",), daemon=True)
    killer.start()
    assert sweep.main(command) == 1
    killer.join(10)
    told = capsys.readouterr().out
    assert "2 failed" in told
    assert "killed/0000 failed: it was ended by SIGKILL" in told
    assert re.search(r"diverging/0000 failed: the loss is not finite at step \d", told)
    assert f"log: {output}/logs/diverging/0000.log" in told
    assert sweep.main([*command, "--only", "killed"]) == 0
    assert "1 finished" in capsys.readouterr().out
    run, whole = output / "runs/killed/0000", tmp_path / "whole"
    arguments = ["launch/train.py", "--config", str(run / "config.yaml"), "--output", str(whole)]
    done = run_forked(arguments, cwd=ROOT, output=tmp_path / "told")
    assert done.returncode == 0, done.stderr
    assert "optimizer" in checkpoint.load(whole / "checkpoints/last.pt")["trainer"]
    shed(whole)  # as the sweep has done
    assert "optimizer" not in checkpoint.load(run / "checkpoints/last.pt")["trainer"]
    assert_same(snapshot(run), snapshot(whole))
    fronts = {path.stem for path in (run / "checkpoints/pareto").glob("*.pt")}
    results = [path.name.split(".")[:2] for path in (run / "results").glob("*.json")]
    assert sorted(results) == [[stem, "test"] for stem in sorted(fronts)]
    assert sweep.main([*command, "--only", "killed"]) == 0
    assert "1 runs, 1 of them finished" in capsys.readouterr().out
    assert sweep.main([*command, "--plan"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table[1:3]] == ["killed/0000", "diverging/0000"]
    assert table[1].split()[4] == "finished"
    assert table[2].split()[4].startswith("failed")
    assert sweep.main([*command, "--set", "optimizer.momentum=0.5"]) == 2
    assert "killed/0000: optimizer.momentum: 0.9 in the folder, 0.5 in the experiment" in capsys.readouterr().err


def test_one_sweep_at_a_time(experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    with locked_elsewhere(tmp_path / "out/.lock"):
        assert sweep.main([str(experiment), "--output", str(tmp_path / "out")]) == 2
    assert "is in use by another process" in capsys.readouterr().err
    assert not (tmp_path / "out/plan.json").exists()


def test_wrong_options_are_told(experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.main([str(experiment), "--output", str(tmp_path), "--only", "hole", "--plan"]) == 2
    assert "--only hole: the experiment has diverging, killed" in capsys.readouterr().err
    for options, message in (
        (["--slots", "0"], "--slots 0 is not above 0"),
        (["--nodes", "2"], "--nodes needs --slurm"),
    ):
        with pytest.raises(SystemExit):
            sweep.main([str(experiment), *options])
        assert message in capsys.readouterr().err
    assert sweep.main([str(experiment), "--processes", "3", "--plan"]) == 2
    assert "8 images cannot be shared equally by 3" in capsys.readouterr().err


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: str(p.relative_to(ROOT / "configs/experiments")))
def test_every_shipped_experiment_expands_and_its_configs_are_valid(path: Path) -> None:
    drawn = expand(load_experiment(path))
    configs = parse_configs(drawn)
    assert len(configs) == len(drawn) > 0
    for config in configs.values():
        check_processes(config, 1)


@pytest.mark.parametrize("name", ["multi_node.sh", "slurm.sbatch"])
def test_templates_are_scripts_that_resume(name: str) -> None:
    path = ROOT / "launch" / name
    subprocess.run(["bash", "-n", str(path)], check=True)
    joined = path.read_text().replace("\\\n", " ")
    (command,) = [line for line in joined.splitlines() if "torchrun " in line and not line.lstrip().startswith("#")]
    for part in (
        "launch/train.py --resume",
        "--nnodes=",
        "--node_rank=",
        "--nproc_per_node=",
        "--master_addr=",
        '"$@"',
    ):
        assert part in command, part
    if name == "slurm.sbatch":
        directives = re.findall(r"^#SBATCH (--\S+)", path.read_text(), re.MULTILINE)
        assert {"--requeue", "--signal=B:USR1@180", "--ntasks-per-node=1", "--open-mode=append"} <= set(directives)
        assert "trap stop USR1" in joined
        assert "scontrol requeue" in joined
