"""What attribution methods are judged on: images in which several classes each have a region of their own.

Grids of images (Grid Pointing Game, Rao et al. 2022; Quad-ImageNet of Attribution Lens, Sec. 4.1), pairs of crops (Attribution
Lens, Sec. 4.2), and annotated images as they are (its COCO protocol). Which images meet is drawn from a seed and the labels
alone, so that every method, net and process is judged on the same scenes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class LabelledScene:
    """An image, and where the evidence for each of its classes lies.

    `image` [C, H, W] as the net takes it; `classes`: C' different ones; `regions` [C', H, W] bool, in their order.
    """

    name: str
    image: Tensor
    classes: tuple[int, ...]
    regions: Tensor

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"the classes of {self.name} must differ, but are {list(self.classes)}")
        if self.regions.shape != (len(self.classes), *self.image.shape[1:]):
            raise ValueError(f"{self.name}: {list(self.regions.shape)} regions of an image {list(self.image.shape)}")


@dataclass(frozen=True, eq=False)
class Pictured:
    """One image of a data set, as scenes are made of it: `masks` [m, H, W] bool are the regions of `classes` (m of them)."""

    name: str
    image: Tensor  # [C, H, W]
    classes: tuple[int, ...]
    masks: Tensor
    readable: bool = True  # False: the file is broken, and `image` only stands for it


Look = Callable[[int], Pictured]  # the image at a position of the data set


@dataclass(frozen=True)
class Scenes:
    """Scenes that are built when they are asked for. `names`: of all of them, so that what is done is known without a look."""

    names: tuple[str, ...]
    build: Callable[[int], LabelledScene]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[LabelledScene]:
        return (self.build(i) for i in range(len(self)))


def draw_groups(
    labels: Mapping[int, int], size: int, *, count: int | None = None, seed: int = 0
) -> list[tuple[int, ...]]:
    """Groups of `size` images of different classes, drawn without replacement; at most `count` of them.

    `labels`: position -> its class. An image whose class a group already has waits for the next group. The paper's groups may
    repeat a class, which leaves the lens's class set undefined (FACTS of its code: no filter); ours never do. Raises ValueError
    where no group can be made.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist()
    positions = sorted(labels)
    waiting = deque(positions[i] for i in order)
    groups: list[tuple[int, ...]] = []
    while count is None or len(groups) < count:
        chosen: dict[int, int] = {}
        passed_over: list[int] = []
        while waiting and len(chosen) < size:
            position = waiting.popleft()
            if labels[position] in chosen:
                passed_over.append(position)
            else:
                chosen[labels[position]] = position
        if len(chosen) < size:
            break
        groups.append(tuple(chosen.values()))
        waiting.extendleft(reversed(passed_over))
    if not groups:
        raise ValueError(
            f"a scene of {size} images needs as many classes, but the {len(labels)} images to choose from have "
            f"{len(set(labels.values()))}; ask for a smaller grid, or lower the confidence that images must reach"
        )
    return groups


def grids(
    look: Look, labels: Mapping[int, int], names: Sequence[str], *, rows: int = 2, columns: int = 2,
    size: tuple[int, int] | None = None, region: str = "cell", draw: tuple[int | None, int] = (None, 0),
) -> Scenes:  # fmt: skip
    """Grids of `rows` x `columns` images of different classes, as they lie: from the top left, row by row.

    `labels`: position -> class, of the images to choose from; `names`: of all positions; `size`: (H, W) of the grid, by default
    that of one image, so that its cells are images scaled down (antialiased, the aspect is not kept, as in the paper's quads;
    Rao et al. keep the cells at full size: give rows x H, columns x W). `region`: "cell", or "mask", the class's region
    inside its cell (Part-Quad-ImageNet). `draw`: the most grids, and the seed. Raises ValueError where no grid can be made, and
    for another `region`.
    """
    if region not in ("cell", "mask"):
        raise ValueError(f"the region of a grid is 'cell' or 'mask', not {region!r}")

    def compose(pictures: Sequence[Pictured], classes: Sequence[int]) -> tuple[Tensor, Tensor]:
        height, width = size or (pictures[0].image.shape[1], pictures[0].image.shape[2])
        tall, wide = _cuts(height, rows), _cuts(width, columns)
        image = pictures[0].image.new_zeros(len(pictures[0].image), height, width)
        regions = torch.zeros(len(pictures), height, width, dtype=torch.bool)
        for i, (picture, label) in enumerate(zip(pictures, classes, strict=True)):
            down, right = tall[i // columns], wide[i % columns]
            cell = (down.stop - down.start, right.stop - right.start)
            scaled = functional.interpolate(picture.image[None], cell, mode="bilinear", antialias=True)
            image[:, down, right] = scaled[0]
            regions[i, down, right] = True if region == "cell" else _region(picture, label, cell)
        return image, regions

    return _joined_scenes(
        draw_groups(labels, rows * columns, count=draw[0], seed=draw[1]), look, labels, names, compose
    )


def pairs(
    look: Look, labels: Mapping[int, int], names: Sequence[str], *, draw: tuple[int | None, int] = (None, 0)
) -> Scenes:
    """Two images of different classes side by side, of each the middle half of its width (Attribution Lens, Sec. 4.2).

    `labels`: position -> class, of the images of which `is_central` holds. The scene is as large as one image. `draw` as in
    `grids`.
    """

    def compose(pictures: Sequence[Pictured], classes: Sequence[int]) -> tuple[Tensor, Tensor]:
        width = pictures[0].image.shape[2]
        bands = _band(width), _band(width, width - width // 2)
        image = torch.cat([picture.image[:, :, band] for picture, band in zip(pictures, bands, strict=True)], dim=2)
        regions = torch.zeros(2, *image.shape[1:], dtype=torch.bool)
        regions[0, :, : width // 2] = regions[1, :, width // 2 :] = True
        return image, regions

    return _joined_scenes(draw_groups(labels, 2, count=draw[0], seed=draw[1]), look, labels, names, compose)


def _joined_scenes(
    groups: Sequence[tuple[int, ...]], look: Look, labels: Mapping[int, int], names: Sequence[str],
    compose: Callable[[Sequence[Pictured], Sequence[int]], tuple[Tensor, Tensor]],
) -> Scenes:  # fmt: skip
    """A scene of each group of positions; `compose`: images and their classes -> the scene's image and regions."""
    joined = tuple(" + ".join(names[position] for position in group) for group in groups)

    def build(number: int) -> LabelledScene:
        pictures = [look(position) for position in groups[number]]
        if not all(picture.readable for picture in pictures):
            image = pictures[0].image
            return LabelledScene(joined[number], image, (), torch.zeros(0, *image.shape[1:], dtype=torch.bool))
        classes = tuple(labels[position] for position in groups[number])
        image, regions = compose(pictures, classes)
        return LabelledScene(joined[number], image, classes, regions)

    return Scenes(joined, build)


def is_central(mask: Tensor, *, share: float = 0.8) -> bool:
    """Whether at least `share` of the pixels of an object's mask [H, W] lie in the middle half of the width, and it has any."""
    total = int(mask.sum())
    return total > 0 and int(mask[:, _band(mask.shape[1])].sum()) >= share * total


def annotated(look: Look, positions: Sequence[int], names: Sequence[str], *, smallest: float = 0.01) -> Scenes:
    """Images as they are, with the regions of their classes that cover at least `smallest` of the image (Sec. 4.1, MS-COCO).

    A scene may be left without a class, as one of an unreadable file is (`data.on_error: skip`), here and in grids and pairs.
    """

    def build(number: int) -> LabelledScene:
        picture = look(positions[number])
        large = [i for i, mask in enumerate(picture.masks) if float(mask.double().mean()) >= smallest]
        return LabelledScene(
            picture.name, picture.image, tuple(picture.classes[i] for i in large), picture.masks[large]
        )

    return Scenes(tuple(names[position] for position in positions), build)


def _cuts(length: int, parts: int) -> list[slice]:
    edges = [round(i * length / parts) for i in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _band(width: int, wanted: int | None = None) -> slice:
    wanted = width // 2 if wanted is None else wanted
    start = (width - wanted) // 2
    return slice(start, start + wanted)


def _region(picture: Pictured, label: int, cell: tuple[int, int]) -> Tensor:
    if label not in picture.classes:
        raise ValueError(f"{picture.name} has no region of its class; take the cells of the grid as regions")
    mask = picture.masks[picture.classes.index(label)]
    return functional.interpolate(mask[None, None].float(), cell, mode="nearest-exact")[0, 0] > 0
