"""Every command and snippet of the README and of the pages of docs/, as it is written there, on less data."""

from __future__ import annotations

import argparse
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest

from guidance.config import load_config
from tests.support.processes import run_forked
from tests.whole.docs.made import class_folders, own_images, random_weights, twelfth, yolo_export
from tests.whole.docs.pages import ROOT, pages
from tests.whole.experiments.forking import forking_python

SHARED = ROOT.parent / "shared"
PAGES = pages()
# What stands on two pages runs once. The blocks of guides/own_net.md run in tests/api, one after the other.
BLOCKS = list(dict.fromkeys(
    block for place, text in PAGES.items() if place != "docs/guides/own_net.md"
    for block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
))  # fmt: skip
COMMANDS = list(dict.fromkeys(line for kind, text in BLOCKS if kind == "bash" for line in text.strip().splitlines()))
SNIPPETS = [text for kind, text in BLOCKS if kind == "python"]
# They take minutes also with less to do: they run in a `long` test, and the usual one reads their arguments.
MEASUREMENTS = ("tools/benchmark.py", "RUN0 RUN1 RUN2", "report.py JUDGED", "trainer.compile=true")
DEMO = ["trainer.epochs=1", "data.num_train=40", "data.num_val=20", "data.num_test=20", "data.image_size=32",
        "trainer.batch_size=8", "data.num_workers=0", "trainer.device=cpu", "log.probe_images=2",
        "model.name=resnet8"]  # fmt: skip
SAMPLED = ("model.weights=none data.image_size=64 data.num_workers=0 trainer.batch_size=4 trainer.device=cpu "
           "evaluation.batch_size=4 log.probe_images=1")  # fmt: skip
LESS = {
    **dict.fromkeys(["demo.yaml", "demo_aim.yaml"], " ".join(DEMO)),
    # The sample has no segmentations.
    "waterbirds100_aim_convnext_tiny.yaml": f"model.name=resnet8 model.drop_path=null {SAMPLED} evaluation.region=box "
    "data.image_size=32",
    "waterbirds100_resnet18_energy.yaml": "trainer.epochs=1 data.image_size=32 model.name=resnet8 trainer.device=cpu "
    "log.probe_images=2",
    "coco2014_bcos_energy.yaml": f"model.name=bcos_small {SAMPLED} data.year=2017 data.train_split=train2017 "
    "data.val_split=val2017",
    "voc_resnet50_energy_input.yaml": f"model.name=resnet8 {SAMPLED}",
    "voc_bcos_energy.yaml": f"data.root=../shared/data/voc_sample model.name=bcos_small {SAMPLED}",
    "voc_xdnn_energy.yaml": f"model.name=xdnn_small {SAMPLED}",
}  # fmt: skip
SMALLEST = ["--batch", "2", "--size", "32", "--rounds", "1", "--threads", "1"]  # of benchmarks
SAMPLES = {"/path/to/VOCdevkit": "voc_sample", "/path/to/coco": "coco_sample", "/path/to/waterbirds": "waterbirds100"}


PARSE = argparse.ArgumentParser.parse_args


def measures(command: str) -> bool:
    return any(word in command for word in MEASUREMENTS)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the project's root, whose results are thrown away; beside it there are few images of Waterbirds."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "project").mkdir()
    for name in ("configs", "launch", "tools"):
        (folder / "project" / name).symlink_to(ROOT / name)
    (folder / "shared/data").mkdir(parents=True)
    for sample in (SHARED / "data").glob("*_sample"):
        (folder / "shared/data" / sample.name).symlink_to(sample)
    if (SHARED / "data/waterbirds100").is_dir():
        twelfth(SHARED / "data/waterbirds100", folder / "shared/data/waterbirds100")
    return folder / "project"


def environment(project: Path, *folders: Path) -> dict[str, str]:
    """Of a shell; programs are looked for in `folders` first."""
    path = ":".join(map(str, [*folders, Path(sys.executable).parent, os.environ["PATH"]]))
    return os.environ | {"VIRTUAL_ENV": sys.prefix, "PATH": path, "RUNS": str(project / "runs")}


def execute(words: list[str], project: Path) -> str:
    """As a shell does; but Python, also in scripts, and what torchrun starts are forked from what has imported torch."""
    output = project.parent / f"printed {len(list(project.parent.glob('printed *')))}"
    if words[0] in ("python", "torchrun"):
        processes = [int(word.partition("=")[2]) for word in words if word.startswith("--nproc_per_node=")] or [1]
        words = [word for word in words[1:] if not word.startswith("--nproc")]
        done = run_forked(words, cwd=project, output=output, processes=processes[0], environment=environment(project))
    else:
        with forking_python() as folder:
            done = subprocess.run(
                words,
                cwd=project,
                env=environment(project, folder),
                capture_output=True,
                text=True,
                timeout=900,
                check=False,
            )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def smaller(command: str, project: Path) -> list[str]:
    """The same command with less to do: a dry run where it asks for a cluster, else fewer and smaller images."""
    if command == "bash launch/demo.sh":
        return ["bash", str(ROOT / "launch/demo.sh"), f"data.root={project / 'demo'}", *DEMO]
    if "/path/to/images" in command:
        command = command.replace("resnet50", "resnet18").replace(
            "--weights imagenet", f"--weights {random_weights(project)}"
        )
        command = (
            command.replace("/path/to/images", str(class_folders(project))) + " data.num_workers=0 data.image_size=64"
        )
    for place, name in SAMPLES.items():
        command = command.replace(place, f"../shared/data/{name}")
    command = command.replace("data/demo/images", "demo/images")
    words = shlex.split(command)
    if words[1] == "tools/annotate.py":  # it would serve its page until it is stopped
        return [*words[:2], own_images(project), "--run", "runs/demo_guided", "--dry-run"]
    if "convert" in words:
        yolo_export(project)
    if words[1] == "launch/experiment_demo.sh":  # one run of the 39, and the report on it
        less = "--only baseline --seeds 0 --set trainer.epochs=1 model.name=resnet8"
        return ["bash", str(ROOT / words[1]), str(project / words[2]), *less.split()]
    if words[1] == "tools/benchmark.py":
        families = ["--family", "bcos"] if "--family" in words else []
        return [*words, *families, *SMALLEST]
    words = [word.replace("--nproc_per_node=8", "--nproc_per_node=2") for word in words]
    config = next((Path(w).name for w in words if w.endswith(".yaml")), None)
    if words[1] == "launch/judge.py":
        words = ["runs/demo_guided" if word == "RUN0" else word for word in words if word not in ("RUN1", "RUN2")]
        return [*words, "--count", "1", "--step", "4096", "--methods", "ixg", "gradcam"]
    if words[1] == "launch/sweep.py":
        return [*words, "--set", f"data.root={project / 'sweep'}", *DEMO]
    if config in LESS:
        words += ["--import", "tests.whole.docs.small_rows", "--set", *LESS[config].split()]
        if config.startswith(("voc", "coco", "waterbirds100_aim")) and "--dry-run" not in words:
            words.append("--dry-run")
    return words


@pytest.mark.parametrize("command", [c for c in COMMANDS if "tests/run.sh" not in c and not measures(c)])
def test_command(command: str, project: Path) -> None:
    """In the order of the pages: later commands use what earlier ones made."""
    for name in (name for place, name in SAMPLES.items() if place in command):
        if not (SHARED / "data" / name).is_dir():
            pytest.skip(f"the real sample is not at ../shared/data/{name}")
    words = smaller(command, project)
    printed = execute(words, project)
    if command == "bash launch/demo.sh":
        assert re.search(r"run +worst_group_accuracy +accuracy +.*epg .*iou", printed)
        assert (project / "runs/demo/maps.png").stat().st_size > 10_000
        assert (project / "runs/demo/front.json").is_file()
    if "--model" in command:
        assert "accuracy_class/tench" in printed
    if "--evaluate test" in command:
        assert "test_f1" in (project / "runs/front/front.csv").read_text()


def parsed(script: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a command reads from its arguments, where it ends."""
    found: dict[str, Any] = {}

    def read(parser: argparse.ArgumentParser, given: list[str] | None = None) -> argparse.Namespace:
        found.update(vars(PARSE(parser, given)))
        raise SystemExit(0)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", read)
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    monkeypatch.syspath_prepend(script.parent)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    return found


@pytest.mark.parametrize("command", [c for c in COMMANDS if measures(c)])
def test_arguments_of_measurements(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(command)
    script = next(i for i, word in enumerate(words) if word.endswith(".py"))
    found = parsed(ROOT / words[script], words[script + 1 :], monkeypatch)
    if found.get("config"):
        load_config(ROOT / found["config"], found["set"])


@pytest.mark.long
def test_measurements(project: Path) -> None:
    """On the net of the demo and on the smallest images; in the order of the pages.

    Not those that compile, which takes ten minutes: they run in tests/unit/training/compiled and tests/unit/tools/benchmarks.
    """
    if not (SHARED / "data/voc_sample").is_dir():
        pytest.skip("the real sample is not at ../shared/data/voc_sample")
    execute(smaller("bash launch/demo.sh", project), project)
    for command in (c for c in COMMANDS if measures(c) and "compile" not in c):
        assert execute(smaller(command, project), project), command


def test_blocks_have_a_language_and_commands_a_block() -> None:
    """So that none is overlooked; commands inside a line name scripts, configs and extras that exist."""
    assert {kind for kind, _ in BLOCKS} == {"bash", "python", "text"}
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for place, text in PAGES.items():
        assert not re.findall(r"^ {4}(?:python|torchrun|bash|pip) ", text, re.M), place
        for code in re.findall(r"`((?:python|torchrun|bash|pip) [^`]+)`", text):
            for path in re.findall(r"(?:launch|tools|configs|examples|tests)/[\w/.]+\w", code):
                assert (ROOT / path).exists(), f"{place}: {code}"
            for extra in re.findall(r"\.\[(\w+)\]", code):
                assert extra in setup["options.extras_require"], f"{place}: {code}"


def test_tests_are_what_ci_runs() -> None:
    assert "bash tests/run.sh" in COMMANDS
    assert "bash tests/run.sh" in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda s: s.splitlines()[0])
def test_snippet(snippet: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from guidance.losses import LOCALIZATION_LOSSES

    monkeypatch.chdir(project)
    monkeypatch.setattr("guidance.losses.LOCALIZATION_LOSSES", dict(LOCALIZATION_LOSSES))
    if "image.png" in snippet:
        assert (project / "runs/demo_guided").is_dir(), "the demo command runs first"
        shutil.copy(sorted((project / "demo").rglob("*.png"))[0], project / "image.png")
    names: dict[str, object] = {}
    exec(compile(snippet, "page", "exec"), names)
    if "load_run" in snippet:
        assert names["attribution"].shape == (32, 32)  # type: ignore[attr-defined]
    if "outside" in snippet:
        import torch

        loss = names["outside"](torch.rand(2, 4, 4), torch.zeros(2, 8, 8, dtype=torch.bool))  # type: ignore[operator]
        assert loss.shape == (2,)
