"""The real entry points in processes of their own: exact files, SIGKILL in the middle of an epoch, torchrun, real images."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guidance.data import generate_demo
from guidance.runs.logs.json_lines import read_log
from guidance.runs.paths import METRICS
from tests.support.processes import run_forked, start_forked
from tests.support.runs import assert_same, snapshot

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
SMALL = [
    "data.num_train=40", "data.num_val=10", "data.num_test=11", "data.image_size=32", "data.correlation=0.97",
    "data.signs=shapes", "data.num_workers=0", "trainer.epochs=2", "trainer.batch_size=8", "trainer.checkpoint_every=2",
    "log.every=1", "log.probe_images=2", "trainer.device=cpu", "model.name=resnet8",
]  # fmt: skip


def command(script: str, *args: str, processes: int = 1) -> list[str]:
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return [*start, script, *args]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a command to its end; it must end well unless `check` is False."""

    def run(*args: str, processes: int = 1, check: bool = True) -> subprocess.CompletedProcess[str]:
        output = tmp_path / f"printed {len(list(tmp_path.glob('printed *')))}"
        done = run_forked(args, cwd=ROOT, output=output, processes=processes)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "demo"
    generate_demo(root, num_train=40, num_val=10, num_test=11, image_size=32)
    return root


def train(root: Path, output: Path, *more: str, config: str = "demo") -> list[str]:
    return ["launch/train.py", "--config", f"configs/{config}.yaml", "--output", str(output), *more,
            "--set", f"data.root={root}", *SMALL]  # fmt: skip


@pytest.mark.parametrize(
    ("processes", "config"), [(2, "demo_aim"), *(pytest.param(n, "demo", marks=pytest.mark.long) for n in (1, 2))]
)
def test_sigkill_in_the_middle_of_an_epoch(
    demo_root: Path, tmp_path: Path, run: Run, processes: int, config: str
) -> None:
    """Killed by the kernel at an arbitrary moment of the second epoch, then resumed: bit-identical to a whole run.

    With AIM that means the threshold of that epoch, and every drawn mask. Torchrun has started what is killed. One guided
    process that is killed: tests/whole/experiments/test_sweep.py.
    """
    run(*train(demo_root, tmp_path / "whole", config=config), processes=processes)
    output = tmp_path / "killed"
    victim = subprocess.Popen(
        command(*train(demo_root, output, config=config), processes=processes), cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    log = output / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not (log.exists() and any('"step": 8' in line for line in log.read_text().splitlines())):
        assert victim.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for pid in children(victim.pid):
        os.kill(pid, signal.SIGKILL)
    victim.kill()
    victim.wait()
    saved = snapshot(output)
    assert 5 <= saved["last"]["step"] < 10
    assert list(saved["pareto"]) == ["epoch_0001.pt"]
    run(*train(demo_root, output, "--resume", config=config), processes=processes)
    assert_same(snapshot(output), snapshot(tmp_path / "whole"))


def children(pid: int) -> list[int]:
    """Processes below `pid`, however deep."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listing.splitlines())}

    def below(child: int) -> bool:
        parent = parents.get(child, 0)
        return parent == pid or (parent > 1 and below(parent))

    return [child for child in parents if below(child)]


def test_sigterm_ends_with_exit_code_0(demo_root: Path, tmp_path: Path) -> None:
    """Sent to the whole process group, as schedulers do: the loader's worker must outlive it."""
    output = tmp_path / "run"
    printed = tmp_path / "printed"
    process = start_forked([*train(demo_root, output), "data.num_workers=1"], cwd=ROOT, output=printed)
    assert process.pid
    while not (output / "metrics.jsonl").exists() or not (output / "metrics.jsonl").read_text():
        assert process.is_alive()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    process.join(120)
    assert process.exitcode == 0, Path(f"{printed}.err").read_text()
    assert f"stopped: {output}" in Path(f"{printed}.out").read_text()
    assert 1 <= snapshot(output)["last"]["step"] < 10


def test_run_folder_can_be_run_again_from_its_config(demo_root: Path, tmp_path: Path, run: Run) -> None:
    run(*train(demo_root, tmp_path / "first"))
    run("launch/train.py", "--config", str(tmp_path / "first/config.yaml"), "--output", str(tmp_path / "again"))
    assert_same(snapshot(tmp_path / "again"), snapshot(tmp_path / "first"))
    printed = run("launch/evaluate.py", "--checkpoint", str(tmp_path / "again"), "--split", "test").stdout
    assert "worst_group_accuracy" in printed
    (result,) = (tmp_path / "again/results").glob("last.test.*.json")
    assert 0 <= json.loads(result.read_text())["metrics"]["epg"] <= 1


def test_an_aim_run_shows_its_masks(demo_root: Path, tmp_path: Path, run: Run) -> None:
    """Masks in TensorBoard after every epoch; sparsity among the metrics; the other attributions of the paper."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    output = tmp_path / "aim"
    run(*train(demo_root, output, config="demo_aim"), "data.annotated_fraction=0")
    events = EventAccumulator(str(output / "tensorboard"))
    events.Reload()
    assert {"probe", "masks"} <= set(events.Tags()["images"])
    assert len(events.Images("masks")) == 2
    lines = read_log(output / METRICS)
    epochs = [line for line in lines if "epoch" in line]
    assert [line["train/threshold"] for line in epochs] == pytest.approx([1, 0.25])
    assert all(0 <= epochs[-1][f"val/sparsity/stage{n}"] <= 1 for n in (2, 3))
    found = {}
    for method in ("guided_backprop", "guided_gradcam"):
        settings = [f"evaluation.attribution.method={method}", "evaluation.attribution.depth=input"]
        done = run("launch/evaluate.py", "--checkpoint", str(output), "--set", *settings)
        assert f"{method}: gradients are clamped at relu+gelu" in done.stdout + done.stderr
        found[method] = done.stdout
        assert f"on test: {method} at input, region box, IoU threshold" in done.stdout
    results = [json.loads(path.read_text()) for path in (output / "results").glob("last.test.*.json")]
    assert {result["settings"]["attribution"] for result in results} == set(found)
    assert len({result["metrics"]["epg"] for result in results}) == 2


def test_real_images_on_two_processes(voc_root: Path, tmp_path: Path, run: Run) -> None:
    """A shipped config; small images, few batches. Those of other data sets: tests/whole/docs/test_commands.py."""
    config = [
        "launch/train.py",
        "--config",
        "configs/voc_small_resnet18_energy.yaml",
        "--output",
        str(tmp_path / "run"),
    ]
    less = ["data.image_size=32", "data.num_workers=0", "trainer.device=cpu", "log.probe_images=2"]
    done = run(*config, "--dry-run", "--set", f"data.root={voc_root}", *less, processes=2)
    assert "every stage works" in done.stdout
    assert not (tmp_path / "run").exists()  # a dry run leaves nothing


@pytest.mark.long
def test_guidance_makes_the_demo_right_for_the_right_reasons(tmp_path: Path) -> None:
    """The whole demo, as a user runs it: the guided net is better where the background does not give the class away."""
    environment = os.environ | {
        "VIRTUAL_ENV": sys.prefix, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "RUNS": str(tmp_path),
    }  # fmt: skip
    subprocess.run(["bash", "launch/demo.sh", f"data.root={tmp_path}/data"], cwd=ROOT, env=environment, check=True)
    report = json.loads((tmp_path / "demo/report.json").read_text())
    unguided, guided = report["demo_unguided"], report["demo_guided"]
    unguided, guided = unguided["metrics"], guided["metrics"]
    assert guided["worst_group_images"] == unguided["worst_group_images"] == 100
    assert guided["worst_group_accuracy"] >= 0.75  # over seeds 0.81 to 0.97, against 0.00 to 0.23
    assert unguided["worst_group_accuracy"] <= 0.4
    assert guided["epg"] > unguided["epg"] + 0.25  # 0.89 to 0.95 against 0.35 to 0.52


def test_user_mistakes_end_with_one_clear_message(demo_root: Path, tmp_path: Path, run: Run) -> None:
    def error(*args: str) -> str:
        done = run(*args, check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        return done.stderr

    run_: Any = tmp_path / "run"
    text = error(*train(demo_root, run_, "--set", "optimizer.lrr=1"))
    assert "optimizer.lrr: unknown key" in text
    assert "Did you mean 'lr'" in text
    assert not run_.exists()
    text = error("launch/train.py", "--config", "configs/waterbirds100_resnet18_energy.yaml",
                 "--set", f"data.root={tmp_path}/nothing", "--output", str(run_))  # fmt: skip
    assert "nothing" in text
    assert "metadata.csv" in text  # the expected layout
    assert not run_.exists()
    assert "--resume --output" in error("launch/train.py")
