"""Cases of configs: a shipped one with a few changes."""

from __future__ import annotations

from pathlib import Path
from random import Random

import yaml

from guidance.config import check_processes, dump_config, load_config
from tests.torture.mutations import WORDS, BrokenPromiseError, flip_bytes, mutate

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


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
