"""Where a net looks in a folder of images that nobody has annotated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from PIL import Image
from torch import Tensor

from guidance.api.explaining import ExplainedImages, explain
from guidance.api.images import Picture, Preprocessing
from guidance.attribution import Method
from guidance.data.reading.decode import UnreadableError
from guidance.data.reading.files import IMAGE_SUFFIXES, is_image
from guidance.inference import Run
from guidance.maps import energy_of, energy_share
from guidance.models.classifier import Classifier
from guidance.progress import Progress
from guidance.types import lookup
from guidance.unannotated.places import border_mask, corner_mask
from guidance.unannotated.similar import evidence_shares, group_similar

Rows: TypeAlias = list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Survey:
    """N images, the maps of their predicted classes in numbers, and what stands out among them.

    Nothing here knows where the objects are: energy at the border above that of a uniform map is a suspicion, not a proof.
    """

    images: tuple[Picture, ...]  # of the N that could be read
    names: tuple[str, ...]  # predicted classes
    confidence: Tensor  # [N] probabilities of these
    border: Tensor  # [N] share of a map's positive evidence within a tenth of the sides; 0 for a map without any
    corners: Tensor  # [N] ... in the four corners, each a quarter of the sides
    shares: Tensor  # [N, 8, 8] ... in each cell of a grid
    groups: Tensor  # [N] long: of similar maps, the largest first
    chance: dict[str, float]  # what a uniform map would have: "border", "corners"
    unread: tuple[tuple[str, str], ...]  # files that could not be read, and why

    def order(self, by: str = "border") -> list[int]:
        """Positions of the images, those most worth a look first.

        `by`: most evidence at the "border" or in the "corners", least probable prediction ("uncertain"), or a map least like
        those of its class ("unusual"). Raises ValueError for another word.
        """
        found: list[int] = lookup(ORDERS, by, "order")(self).argsort(descending=True, stable=True).tolist()
        return found

    def table(self, of: str = "group") -> Rows:
        """A row for each "group" of similar maps or each predicted "class": images, classes, mean shares and confidence.

        Raises ValueError for another word.
        """
        labels = lookup({"group": self.groups.tolist(), "class": list(self.names)}, of, "table")
        return [
            {of: label} | self._row([i for i, one in enumerate(labels) if one == label])
            for label in sorted(set(labels))
        ]

    def mean_map(self, group: int) -> Tensor:
        """Mean shares of evidence of a group's maps [8, 8]. Raises ValueError for a group that there is not."""
        chosen = self.groups == group
        if not chosen.any():
            raise ValueError(f"there is no group {group}; the groups are 0 to {int(self.groups.max())}")
        return self.shares[chosen].mean(0)

    def _row(self, chosen: list[int]) -> dict[str, Any]:
        names = [self.names[i] for i in chosen]
        return {
            "images": len(chosen),
            "classes": {
                name: names.count(name) for name in sorted(set(names), key=lambda name: (-names.count(name), name))
            },
            "border": float(self.border[chosen].mean()),
            "corners": float(self.corners[chosen].mean()),
            "confidence": float(self.confidence[chosen].mean()),
        }


def _unusual(survey: Survey) -> Tensor:
    """Hellinger distance of each map to the mean of its class [N]."""
    found = torch.zeros(len(survey.names))
    for name in set(survey.names):
        chosen = torch.tensor([one == name for one in survey.names])
        roots = survey.shares[chosen].sqrt() - survey.shares[chosen].mean(0).sqrt()
        found[chosen] = torch.linalg.vector_norm(roots, dim=(1, 2)) / 2**0.5
    return found


# How much each image is worth a look [N].
ORDERS: dict[str, Callable[[Survey], Tensor]] = {
    "border": lambda survey: survey.border,
    "corners": lambda survey: survey.corners,
    "uncertain": lambda survey: 1 - survey.confidence,
    "unusual": _unusual,
}


def survey(
    model: Classifier | Run,
    images: str | Path | Sequence[Picture],
    *,
    attribution: str | Method | None = None,
    depth: str | None = None,
    classes: Sequence[str] | None = None,
    preprocess: Preprocessing | Callable[[Image.Image], Tensor] | None = None,
    batch_size: int = 16,
    groups: int = 6,
) -> Survey:
    """Where a net looks, over many images without any annotation.

    `images`: a folder, whose images are all taken, also those of folders in it, or what `explain` takes. `groups`: into how
    many groups similar maps are put, at most. The others are as in `explain`; each image is explained for its predicted class.
    Images that cannot be read are left out and named in `unread`. Raises ValueError for what `explain` refuses, and where no
    image can be read.
    """
    given = _files(images) if isinstance(images, str | Path) else list(images)
    look = partial(explain, model, attribution=attribution, depth=depth, classes=classes, preprocess=preprocess)
    unread: list[tuple[str, str]] = []
    seen: list[_Seen] = []
    with Progress("explained", -(-len(given) // batch_size), unit="batch") as progress:
        for start in progress.track(range(0, len(given), batch_size)):
            seen += _look(look, given[start : start + batch_size], unread)
    if not seen:
        raise ValueError(
            f"none of the {len(given)} images can be read; the first: {unread[0][1] if unread else images}"
        )
    shares = torch.cat([part.shares for part in seen])
    return Survey(
        images=tuple(image for part in seen for image in part.images),
        names=tuple(name for part in seen for name in part.names),
        confidence=torch.cat([part.confidence for part in seen]),
        border=torch.cat([part.border for part in seen]),
        corners=torch.cat([part.corners for part in seen]),
        shares=shares,
        groups=group_similar(shares, groups),
        chance={name: float(of(*seen[0].size).float().mean()) for name, of in _PLACES.items()},
        unread=tuple(unread),
    )


class _Seen(NamedTuple):
    """Some of the images, as in `Survey`."""

    images: list[Picture]
    names: list[str]
    confidence: Tensor
    border: Tensor
    corners: Tensor
    shares: Tensor
    size: tuple[int, int]


_PLACES = {"border": border_mask, "corners": corner_mask}


def _look(
    look: Callable[[list[Picture]], ExplainedImages], images: list[Picture], unread: list[tuple[str, str]]
) -> list[_Seen]:
    """The images that can be read, measured; the others, and why, are added to `unread`."""
    try:
        found = look(images)
    except UnreadableError as error:
        if len(images) == 1:
            unread.append((str(images[0]), str(error)))
            return []
        middle = len(images) // 2
        return _look(look, images[:middle], unread) + _look(look, images[middle:], unread)
    height, width = found.maps.shape[-2:]
    energy = energy_of(found.maps)
    border, corners = (energy_share(energy, of(height, width).expand(len(images), -1, -1)) for of in _PLACES.values())
    confidence = found.probabilities.gather(1, found.targets[:, None])[:, 0]
    names = [of_image[0] for of_image in found.names]
    return [_Seen(images, names, confidence, border, corners, evidence_shares(energy), (height, width))]


def _files(folder: str | Path) -> list[Picture]:
    """All images in a folder and the folders in it, in the order of their names."""
    if not Path(folder).is_dir():
        raise ValueError(f"{folder} is no folder; give a folder of images, or a list of files or tensors")
    found = sorted(path for path in Path(folder).rglob("*") if is_image(path) and path.is_file())
    if not found:
        raise ValueError(f"there is no image in {folder}, nor in a folder in it ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return list(found)
