"""Cases of data: a stand-in of a data set with a few faults, loaded, checked and read."""

from __future__ import annotations

from pathlib import Path
from random import Random

import yaml

from guidance.data import DATASETS, GuidanceDataset, RegionOptions, UnreadableError, eval_transform, train_transform
from guidance.data.reading.preflight import preflight
from tests.support.data.layouts import LAYOUTS
from tests.torture.faults import FAULTS
from tests.torture.mutations import BrokenPromiseError
from tools import prepare_data


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
