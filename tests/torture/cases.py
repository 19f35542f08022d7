"""The cases of tests/torture.py: each takes a random generator and an empty folder, and either returns or raises."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from guidance.assembly import build_trainer
from guidance.config import check_processes, dump_config, load_config
from guidance.data import (
    DATASETS,
    GuidanceDataset,
    RegionOptions,
    UnreadableError,
    eval_transform,
    generate_demo,
    train_transform,
)
from guidance.data.reading.preflight import preflight
from guidance.inference import evaluate_checkpoint
from guidance.models import BACKBONES, Backbone
from guidance.runs.checkpoint import read_candidates
from tests.support.layouts import LAYOUTS
from tests.support.runs import COUNTS, assert_same, build_tiny, snapshot, tiny_config
from tools import prepare_data, select_pareto

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
NASTY: list[Any] = [
    None, True, False, 0, 1, -1, 3, 2**31, 2**63, 10**30, 10**400, 0.5, -0.5, 1e308, -1e308, float("nan"), float("inf"), 1e-320,
    "", " ", "x", "nan", "1_0", "1e3", "é", "\0", "a/b", "../..", "/", "null", "true", [], [[]], {}, [1, 2], ["a"], {"a": 1},
    [[[]]], "x" * 5000,
]  # fmt: skip
WORDS = [
    "nan",
    "inf",
    "-1",
    "0",
    "1e999",
    "1_0",
    "",
    "x",
    "999999999999999999999",
    "1e9",
    "-0",
    "٣",
    "\0",
    ",",
    '"',
    "<",
    "[" * 3000,
]
SIDES = [20, 30, 0, -1, 10**6, 10**12, "x", 20.0]
RUNS = [0, 1, 599, 600, -5, 2**33, 10**15, "x"]
POINTS = [0, 5, 29.5, -3, 1e9, -1e300, float("nan"), 10**400, "x"]


class BrokenPromiseError(RuntimeError):
    """What was said to be fine was not."""


def prepare(section: str) -> None:
    """Make, once, what the cases of a section start from."""
    torch.set_num_threads(1)  # a forked process must find no threads to miss
    BACKBONES["tiny"] = Backbone(build_tiny, "fc", {}, depths=("input", "mid1", "final"), stride=4)
    if section == "checkpoints":
        _make_run()
    if section == "kills":
        for scenario in SCENARIOS:
            _whole(scenario)


# --- structures -------------------------------------------------------------------------------------------------------


def mutate(tree: Any, random: Random) -> Any:
    """`tree` of dicts and lists with one thing changed, somewhere."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            places.append((node, key))
            walk(value)

    walk(tree)
    if not places:
        return random.choice(NASTY)
    node, key = random.choice(places)
    kind = random.choice(("delete", "replace", "replace", "tweak", "tweak", "rename", "nest", "swap", "double"))
    if kind == "tweak" and isinstance(node[key], int | float):
        node[key] = node[key] * random.choice((2, 0.5, 10, 0)) + random.choice((0, 1))
        return tree
    if kind == "delete":
        del node[key]
    elif kind in ("replace", "tweak"):
        node[key] = random.choice(NASTY)
    elif kind == "rename" and isinstance(node, dict):
        node[f"{key}{random.choice('sx_')}" if isinstance(key, str) else 77] = node.pop(key)
    elif kind == "nest":
        node[key] = random.choice(([node[key]], {"a": node[key]}))
    elif kind == "swap":
        other, place = random.choice(places)
        with suppress(KeyError, IndexError):
            node[key], other[place] = other[place], node[key]
        if _is_cyclic(tree):
            node[key] = None
    elif isinstance(node, list):
        node.append(node[key])
    return tree


def _is_cyclic(tree: Any, above: tuple[int, ...] = ()) -> bool:
    if not isinstance(tree, dict | list):
        return False
    values = tree.values() if isinstance(tree, dict) else tree
    return id(tree) in above or any(_is_cyclic(value, (*above, id(tree))) for value in values)


def flip_bytes(content: bytes, random: Random) -> bytes:
    """Some bytes changed, or the end missing, or something in front."""
    kind = random.choice(("flip", "flip", "cut", "empty", "front", "middle"))
    if kind == "flip" and content:
        changed = bytearray(content)
        for _ in range(random.randint(1, 20)):
            changed[random.randrange(len(changed))] = random.randrange(256)
        return bytes(changed)
    if kind == "middle" and content:
        at = random.randrange(len(content))
        return content[:at] + content[at + random.randint(1, 50) :]
    return {"empty": b"", "front": b"\xef\xbb\xbf" + content}.get(kind, content[: random.randrange(len(content) + 1)])


# --- configs ----------------------------------------------------------------------------------------------------------


def fuzzed_config(random: Random, folder: Path) -> None:
    """A shipped config with a few changes, in its text or in its structure, and a random --set."""
    path = random.choice(CONFIGS)
    if random.random() < 0.25:
        (folder / "x.yaml").write_bytes(flip_bytes(path.read_bytes(), random))
    else:
        content = yaml.safe_load(path.read_text())
        for _ in range(random.randint(1, 3)):
            content = mutate(content, random)
        (folder / "x.yaml").write_text(yaml.safe_dump(content, allow_unicode=True))
    names = [
        "optimizer.lr",
        "data.image_size",
        "seed",
        "evaluation.attribution.depth",
        "aim.stop_stage",
        "model",
        "a.b",
        "",
    ]
    sets = (
        [f"{random.choice(names)}={random.choice([*WORDS, 'null', '[1', '{a: 1}', '7'])}"]
        if random.random() < 0.4
        else []
    )
    config = load_config(folder / "x.yaml", sets)
    check_processes(config, random.randint(1, 9))
    (folder / "again.yaml").write_text(dump_config(config))
    if load_config(folder / "again.yaml") != config:
        raise BrokenPromiseError("the resolved config does not read back")


# --- data -------------------------------------------------------------------------------------------------------------


def fuzzed_data(random: Random, folder: Path) -> None:
    """A stand-in of a data set with up to three faults: loaded, checked, and every sample of it read, in both ways."""
    name = random.choice(sorted(LAYOUTS))
    root = folder / "set"
    LAYOUTS[name].make(root)
    for _ in range(random.randint(1, 3)):
        files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        random.choice(FAULTS)(random.choice(files), random)
    layout, failure = LAYOUTS[name], None
    for on_error in ("raise", "skip"):
        for split in layout.counts:
            try:
                _use_split(name, root, split, on_error)
            except (ValueError, OSError) as error:
                failure = error
    config = {"data": {"name": layout.name, "root": str(root), **layout.options}, "model": {"name": "resnet18"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if prepare_data.main(["verify", "--config", str(folder / "config.yaml"), "--threads", "1"]) not in (0, 1, 2):
        raise BrokenPromiseError("verify ends with another exit code")
    if failure is not None:
        raise failure


def _use_split(name: str, root: Path, split: str, on_error: str) -> None:
    source = DATASETS[LAYOUTS[name].name](root, split, **LAYOUTS[name].options, on_error=on_error)
    if not source.records:
        raise ValueError(f"{split} has no usable image")
    preflight(source, pixels=True, segmentations=True, on_error=on_error)
    segments = source.read_segments is not None
    evaluated = GuidanceDataset(
        source, eval_transform(16), training=False, regions=RegionOptions(load_segments=segments), on_error=on_error
    )
    trained = GuidanceDataset(
        source, train_transform(16, "crop_flip"), training=True, regions=RegionOptions(region="best"), on_error=on_error
    )
    for i in range(len(source.records)):
        try:
            evaluated[0, i], trained[1, i]
        except (ValueError, OSError) as error:
            if on_error == "skip" and isinstance(error, UnreadableError) and "no image of" in str(error):
                raise
            raise BrokenPromiseError(f"preflight found nothing, and then: {error}") from error


def _edit_text(path: Path, random: Random) -> None:
    try:
        text = path.read_text()
    except (UnicodeDecodeError, OSError):
        return
    numbers, lines = list(re.finditer(r"-?\d+(\.\d+)?", text)), text.splitlines(keepends=True)
    kind = random.choice(("number", "number", "number", "line", "double", "word", "comma"))
    if kind == "number" and numbers:
        found = random.choice(numbers)
        text = text[: found.start()] + random.choice(WORDS) + text[found.end() :]
    elif kind == "line" and lines:
        del lines[random.randrange(len(lines))]
        text = "".join(lines)
    elif kind == "double" and lines:
        text += random.choice(lines)
    elif kind == "word":
        words = list(re.finditer(r"[A-Za-z]+", text))
        if words:
            found = random.choice(words)
            text = text[: found.start()] + random.choice(["x", "", "cat", "../x"]) + text[found.end() :]
    else:
        text = text.replace(",", random.choice([";", " ", ",,"]), 1)
    path.write_text(text)


def _edit_json(path: Path, random: Random) -> None:
    if path.suffix != ".json":
        return _edit_text(path, random)
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError, OSError):
        return None
    for _ in range(random.randint(1, 3)):
        content = mutate(content, random)
    path.write_text(json.dumps(content))
    return None


def _edit_segmentation(path: Path, random: Random) -> None:
    """A malformed shape in an annotation of a JSON; another file gets other bytes."""
    if path.suffix != ".json":
        return _edit_bytes(path, random)
    try:
        content = json.loads(path.read_text())
        entry = random.choice(content["annotations"])
        size = [random.choice(SIDES) for _ in range(2)]
        runs = [random.choice(RUNS) for _ in range(random.randint(0, 5))]
        text = "".join(chr(random.randrange(40, 120)) for _ in range(random.randint(0, 30)))
        points = [random.choice(POINTS) for _ in range(random.randint(0, 12))]
        codes = [{"size": size, "counts": runs}, {"size": [20, 30], "counts": runs}, {"size": [20, 30], "counts": text}]
        entry["segmentation"] = random.choice([*codes, [points], points, {"counts": runs}])
        path.write_text(json.dumps(content))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        pass
    return None


def _edit_bytes(path: Path, random: Random) -> None:
    path.write_bytes(flip_bytes(path.read_bytes(), random))


def _replace(path: Path, random: Random) -> None:
    """Something that is no file, or none that is expected."""
    kind = random.choice(("pipe", "loop", "folder", "dangling", "text", "random", "gone", "moved"))
    if kind == "moved":
        path.rename(path.with_name(random.choice(["x.jpg", "é.jpg", "a b.png", ".hidden.jpg", path.name.upper()])))
        return
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "dangling":
        path.symlink_to(path.with_name("nothing"))
    elif kind == "text":
        path.write_text("hello")
    elif kind == "random":
        path.write_bytes(random.randbytes(random.randrange(2000)))


def _other_picture(path: Path, random: Random) -> None:
    """Another type, size or orientation than an image file is expected to have."""
    if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        return _edit_text(path, random)
    exif = Image.Exif()
    exif[274] = random.randint(0, 9)
    size = random.choice([(20, 30), (30, 20), (1, 1), (1, 500), (20, 31), (300, 2)])
    mode = random.choice(["L", "RGB", "CMYK", "I;16", "I", "F", "1", "P", "LA", "RGBA"])
    kind = random.choice(["JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP", "header"])
    if kind == "header":  # a PNG that says it is huge
        body = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + b"\0\0\0\0")
        return None
    pixels = np.random.default_rng(random.randrange(99)).integers(0, 255, size)
    dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}.get(mode, np.uint8)
    image = Image.fromarray(pixels.astype(dtype))
    try:
        image = image if mode in ("I;16", "I", "F") else image.convert(mode)
        image.save(path, kind, exif=exif)
    except (OSError, ValueError):
        image.convert("RGB").save(path, "JPEG", exif=exif)
    return None


FAULTS: list[Callable[[Path, Random], None]] = [
    _edit_text, _edit_text, _edit_json, _edit_json, _edit_segmentation, _edit_bytes, _replace, _other_picture
]  # fmt: skip

# --- checkpoints ------------------------------------------------------------------------------------------------------

_RUN: list[Path] = []


def _make_run() -> None:
    """A run of one epoch on few pictures, beside its data."""
    if not _RUN:
        _RUN.append(Path(tempfile.mkdtemp()))
        generate_demo(_RUN[0] / "demo", **COUNTS, image_size=32)
        build_trainer(_config(1), _RUN[0] / "run", torch.device("cpu")).fit()


def _config(epochs: int) -> Any:
    log = {"tensorboard": False}
    return tiny_config(_RUN[0] / "demo", trainer={"epochs": epochs}, schedule={"name": "constant"}, log=log)


def fuzzed_checkpoint(random: Random, folder: Path) -> None:
    """A file of a run folder with other bytes, or a checkpoint with another content: resumed, evaluated, selected from."""
    run = folder / "run"
    shutil.copytree(_RUN[0] / "run", run)
    checkpoints = [run / "checkpoints/last.pt", run / "checkpoints/pareto/epoch_0001.pt"]
    path = random.choice([checkpoints[0], *checkpoints, run / "metrics.jsonl", run / "config.yaml"])
    if path.suffix != ".pt" or random.random() < 0.3:
        path.write_bytes(flip_bytes(path.read_bytes(), random))
    elif random.random() < 0.1:
        shutil.copy(random.choice(checkpoints), path)
    else:
        state = torch.load(path, weights_only=True)
        state = {key: dict(value) if key == "model" else value for key, value in state.items()}
        for _ in range(random.randint(1, 2)):
            state = mutate(_plain(state), random)
        torch.save(state, path)
    failure = None
    for use in (
        lambda: build_trainer(_config(2), run, torch.device("cpu"), resume=True).fit(),
        lambda: evaluate_checkpoint(run, "test"),
        lambda: read_candidates(run / "checkpoints/pareto"),
        lambda: select_pareto.select([run], output=folder / "front"),
        lambda: load_config(run / "config.yaml"),
    ):
        try:
            use()
        except (ValueError, OSError) as error:
            failure = error
    if failure is not None:
        raise failure


def _plain(value: Any) -> Any:
    """Tuples as lists, which can be changed."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


# --- kills ------------------------------------------------------------------------------------------------------------

SMALL = [
    "data.num_train=40", "data.num_val=18", "data.num_test=18", "data.image_size=32", "data.correlation=0.97",
    "trainer.epochs=3", "trainer.batch_size=8", "trainer.checkpoint_every=2", "log.every=1",
    "log.probe_images=1", "trainer.device=cpu",
]  # fmt: skip
BCOS = ["model.name=bcos_resnet18", "objective.attribution.method=bcos", "objective.attribution.depth=mid2"]
# config, processes, workers, more settings
SCENARIOS: list[tuple[str, int, int, tuple[str, ...]]] = [
    ("demo", 1, 0, ()), ("demo", 1, 2, ()), ("demo", 2, 1, ()), ("demo_aim", 1, 0, ()), ("demo_aim", 2, 0, ()),
    ("demo", 1, 0, tuple(BCOS)),
]  # fmt: skip
_WHOLE: dict[int, tuple[Path, float]] = {}  # scenario -> folder of an uninterrupted run, and its time


def _train(scenario: tuple[str, int, int, tuple[str, ...]], data: Path, output: Path) -> subprocess.Popen[bytes]:
    config, processes, workers, more = scenario
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [*start, "launch/train.py", "--config", f"configs/{config}.yaml", "--output", str(output), "--resume", "--set",
               f"data.root={data}", *SMALL, f"data.num_workers={workers}", *more]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    log = open(output.with_suffix(".log"), "ab")  # noqa: SIM115 (the process keeps it)
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)


def _whole(scenario: tuple[str, int, int, tuple[str, ...]]) -> tuple[Path, float]:
    number = SCENARIOS.index(scenario)
    if number not in _WHOLE:
        folder = Path(tempfile.mkdtemp())
        generate_demo(folder / "demo", num_train=40, num_val=18, num_test=18, image_size=32)
        start = time.monotonic()
        if _train(scenario, folder / "demo", folder / "run").wait() != 0:
            raise BrokenPromiseError((folder / "run.log").read_text())
        _WHOLE[number] = folder, time.monotonic() - start
    return _WHOLE[number]


def killed_run(random: Random, folder: Path) -> None:
    """A run whose processes are killed up to three times at random moments: all, one of them, or a worker."""
    scenario = random.choice(SCENARIOS)
    whole, seconds = _whole(scenario)
    for _ in range(random.randint(1, 3)):
        process = _train(scenario, whole / "demo", folder / "run")
        time.sleep(random.uniform(0.2, 1.05) * seconds)
        below = _below(process.pid)
        number = random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        victims = [process.pid, *below] if random.random() < 0.6 or not below else [random.choice(below)]
        for pid in victims:
            _kill(pid, number)
        if process.wait() not in (0, 1, 2, -signal.SIGKILL, -signal.SIGTERM):
            raise BrokenPromiseError((folder / "run.log").read_text())
        for pid in below:  # a torchrun that was killed leaves its processes behind
            _kill(pid, signal.SIGKILL)
        time.sleep(0.2)
    if _train(scenario, whole / "demo", folder / "run").wait() != 0:
        raise BrokenPromiseError((folder / "run.log").read_text())
    own = re.sub(
        r"(?s)Traceback.*?torchrun|torch/distributed/(run|launcher|elastic).*", "", (folder / "run.log").read_text()
    )
    if re.search(r'File ".*guidance', own):
        raise BrokenPromiseError(f"a traceback of ours:\n{own}")
    assert_same(snapshot(folder / "run"), snapshot(whole / "run"))


def _below(pid: int) -> list[int]:
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listing.splitlines())}
    found, level = [], [pid]
    while level:
        level = [child for child, parent in parents.items() if parent in level]
        found += level
    return found


def _kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
