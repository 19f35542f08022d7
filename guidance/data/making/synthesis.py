"""Birds of CUB-200-2011 put before other backgrounds: Waterbirds and TravelingBirds of any strength of correlation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from guidance.data.making.scenes import (
    TEST,
    TRAIN,
    VAL,
    Bird,
    Scene,
    draw_backgrounds,
    read_backgrounds,
    read_birds,
    write_set,
)

# Sagawa et al. 2020: a species is a waterbird if its name holds one of these. "tern" thereby also finds three land birds
# (CORRECTED), which the released sets label as waterbirds.
WATERBIRDS = (
    "albatross", "auklet", "cormorant", "frigatebird", "fulmar", "gull", "jaeger", "kittiwake", "pelican", "puffin",
    "tern", "gadwall", "grebe", "mallard", "merganser", "guillemot", "pacific_loon",
)  # fmt: skip
CORRECTED = ("eastern_towhee", "western_meadowlark", "western_wood_pewee")
PLACES = ("land", "water")


def synthesize_waterbirds(
    cub: Path,
    backgrounds: Path,
    output: Path,
    *,
    correlation: float = 0.95,
    seed: int = 0,
    corrected: bool = False,
    val_fraction: float = 0.2,
    threads: int = 1,
) -> Path:
    """Write Waterbirds in its official layout to a folder of `output`, and return it (Sagawa et al. 2020, appendix C.1).

    `backgrounds` holds the folders land/ and water/. Of the landbirds of the training split the share `correlation` is
    on land, of the waterbirds on water; in validation and test each is half and half. `val_fraction` of CUB's training
    images, chosen at random, are the validation split. Every background serves one bird where there are enough. `corrected`
    labels the three land birds right that the released sets call waterbirds. The pixels depend on files and options alone.
    The folder has the official name for 0.95 and 1, else one with the per cent. CUB's boxes and segmentations are copied
    to `output` where they are not there. A killed run leaves nothing but a hidden folder.
    """
    _check_fraction("correlation", correlation)
    _check_fraction("val_fraction", val_fraction)
    birds, pools = read_birds(cub), read_backgrounds(backgrounds, PLACES)
    rng = np.random.default_rng((seed, 0))
    splits = _waterbird_splits(birds, val_fraction, rng)
    labels = [is_waterbird(bird.name, corrected=corrected) for bird in birds]
    places = _waterbird_places(splits, labels, correlation, rng)
    scenes = draw_backgrounds(birds, splits, labels, places, [pools[name] for name in PLACES], rng)
    name = (
        f"waterbird_complete{correlation * 100:g}_forest2water2" if correlation < 1 else "waterbird_1.0_forest2water2"
    )
    return write_set(output / name, cub, backgrounds, scenes, lambda scene: scene.bird.name, threads=threads)


def synthesize_traveling_birds(
    cub: Path, backgrounds: Path, output: Path, *, correlation: float = 1.0, seed: int = 0, threads: int = 1
) -> Path:
    """Write TravelingBirds in its official layout to output/CUB_fixed, and return it (Koh et al. 2020).

    `backgrounds` holds a folder for each place, at least two. Each class is given a place at random (several share one
    where there are fewer places than classes); in training the share `correlation` of its images is there, the rest at
    other places; at test every image is at a random place. The splits are CUB's. metadata.csv lists the places. The rest
    as `synthesize_waterbirds`.
    """
    _check_fraction("correlation", correlation)
    names = sorted(path.name for path in backgrounds.iterdir() if path.is_dir()) if backgrounds.is_dir() else []
    if len(names) < 2:
        raise ValueError(f"{backgrounds} must hold at least two folders of background pictures, one for each place")
    birds, pools = read_birds(cub), read_backgrounds(backgrounds, names)
    rng = np.random.default_rng((seed, 1))
    folders = sorted({bird.name.split("/")[0] for bird in birds})
    labels = [folders.index(bird.name.split("/")[0]) for bird in birds]
    splits = [TRAIN if bird.training else TEST for bird in birds]
    places = _traveling_places(splits, labels, len(folders), len(names), correlation, rng)
    scenes = draw_backgrounds(birds, splits, labels, places, [pools[name] for name in names], rng)
    return write_set(output / "CUB_fixed", cub, backgrounds, scenes, _traveling_name, threads=threads)


def _traveling_name(scene: Scene) -> str:
    return f"{'train' if scene.split == TRAIN else 'test'}/{scene.bird.name}"


def is_waterbird(name: str, *, corrected: bool = False) -> int:
    """1 for a waterbird, by the species in the class folder of an image's name, else 0."""
    species = name.split("/")[0].partition(".")[2].lower()
    if corrected and species in CORRECTED:
        return 0
    return int(any(part in species for part in WATERBIRDS))


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie between 0 and 1; got {value}")


def _waterbird_splits(birds: Sequence[Bird], val_fraction: float, rng: np.random.Generator) -> list[int]:
    training = [i for i, bird in enumerate(birds) if bird.training]
    held_out = set(rng.permutation(training)[: round(val_fraction * len(training))].tolist())
    return [(VAL if i in held_out else TRAIN) if bird.training else TEST for i, bird in enumerate(birds)]


def _waterbird_places(
    splits: Sequence[int], labels: Sequence[int], correlation: float, rng: np.random.Generator
) -> list[int]:
    places = [0] * len(splits)
    for split in (TRAIN, VAL, TEST):
        for label in (0, 1):
            members = [i for i in range(len(splits)) if (splits[i], labels[i]) == (split, label)]
            on_water = 0.5 if split != TRAIN else correlation if label else 1 - correlation
            for i in rng.permutation(members)[: round(on_water * len(members))].tolist():
                places[i] = 1
    return places


def _traveling_places(
    splits: Sequence[int],
    labels: Sequence[int],
    classes: int,
    places: int,
    correlation: float,
    rng: np.random.Generator,
) -> list[int]:
    order = rng.permutation(places)
    own = [int(order[label % places]) for label in range(classes)]
    result: list[int] = rng.integers(places, size=len(splits)).tolist()
    for label in range(classes):
        members = [i for i in range(len(splits)) if (splits[i], labels[i]) == (TRAIN, label)]
        fitting = round(correlation * len(members))
        for position, i in enumerate(rng.permutation(members).tolist()):
            shift = 0 if position < fitting else 1 + int(rng.integers(places - 1))
            result[i] = (own[label] + shift) % places
    return result


SETS: Mapping[str, Callable[..., Path]] = {
    "waterbirds": synthesize_waterbirds,
    "traveling_birds": synthesize_traveling_birds,
}
