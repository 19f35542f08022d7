"""The benchmarks: what each measures of a method on a scene, and which way is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from guidance.benchmarks import faithfulness, randomization
from guidance.benchmarks.class_maps import VARIANTS, JudgedMethod, Temperatures, class_maps, refine
from guidance.benchmarks.running import Judge, Row, device_of, to_batch
from guidance.benchmarks.scenes import LabelledScene
from guidance.evaluation.scores import all_scores
from guidance.models.classifier import Classifier


@dataclass(frozen=True)
class Choices:
    """What benchmarks can be told. The defaults are the paper's, or, where it gives none, said where they are used."""

    variants: Mapping[str, Temperatures | None] = field(default_factory=lambda: dict(VARIANTS))
    threshold: float = 0.0  # of an active pixel, as a share of the largest value (`scores.pixel_scores`)
    sigma: float = 2.0  # of the blur, in pixels
    blurred_pixels: bool = False  # whether maps are blurred before their pixels are binarised
    step: int | None = None  # pixels that insertion and deletion add at a time; None: as many as a row has (RISE)
    single_label: bool = True  # softmax, else sigmoid
    removed: Tensor | None = None  # the pixel that deletion leaves [C]
    fractions: Sequence[float] = randomization.FRACTIONS
    seed: int = 0  # of the weights that randomisation draws


@dataclass(frozen=True)
class Benchmark:
    """A row of BENCHMARKS. `measures`: column -> whether higher is better; `curves`: columns that are lists."""

    title: str
    judge: Callable[[Classifier, Choices], Judge]
    measures: Mapping[str, bool]
    curves: Sequence[str] = ()
    classes: str = "given"  # whose maps are compared: the scene's, or "top2", the two most probable ones of the net


def localization(model: Classifier, choices: Choices) -> Judge:
    """RA, IoU and F1 of each class's map on its region (Attribution Lens, Sec. 4.1, Table 1); see `scores.pixel_scores`."""

    def judge(method: JudgedMethod, scenes: Sequence[LabelledScene]) -> list[Row]:
        images, classes = to_batch(scenes, device_of(model))
        regions = torch.stack([scene.regions for scene in scenes], dim=1).to(images.device)  # [C', B, H, W]
        rows: list[Row] = []
        for variant, maps in refine(class_maps(model, images, classes, method), choices.variants).items():
            scores = all_scores(
                maps.flatten(0, 1), regions.flatten(0, 1), threshold=choices.threshold, sigma=choices.sigma,
                blurred_pixels=choices.blurred_pixels,
            )  # fmt: skip
            found = {column: scores[name].view(maps.shape[:2]).tolist() for name, column in COLUMNS.items()}
            rows += [
                {"scene": scene.name, "class": c, "variant": variant, **{name: v[k][b] for name, v in found.items()}}
                for b, scene in enumerate(scenes) for k, c in enumerate(scene.classes)
            ]  # fmt: skip
        return rows

    return judge


COLUMNS = {  # of `scores.all_scores`, as the paper calls them
    "region_attribution": "ra", "pixel_iou": "iou", "pixel_f1": "f1", "pixel_precision": "precision", "pixel_recall": "recall",
}  # fmt: skip


def insertion_deletion(model: Classifier, choices: Choices) -> Judge:
    """Areas under the curves of insertion and deletion (Sec. 4.2, Tables 2 and 12), and the curves."""

    def judge(method: JudgedMethod, scenes: Sequence[LabelledScene]) -> list[Row]:
        images, classes = to_batch(scenes, device_of(model))
        rows: list[Row] = []
        for variant, maps in refine(class_maps(model, images, classes, method), choices.variants).items():
            for b, scene in enumerate(scenes):
                for target, rank in zip(scene.classes, faithfulness.ranks(maps[:, b]), strict=True):
                    found = _curves(model, images[b], rank, target, choices)
                    rows.append({"scene": scene.name, "class": target, "variant": variant, **found})
        return rows

    return judge


def _curves(model: Classifier, image: Tensor, rank: Tensor, target: int, choices: Choices) -> dict[str, Any]:
    step = choices.step or image.shape[2]
    removed = torch.zeros(len(image)) if choices.removed is None else choices.removed
    single = choices.single_label
    inserted = faithfulness.insertion(model, image, rank, target, step=step, single_label=single)
    deleted = faithfulness.deletion(model, image, rank, target, removed=removed, step=step, single_label=single)
    return {
        "insertion": faithfulness.area(inserted), "deletion": faithfulness.area(deleted),
        "insertion_curve": inserted.tolist(), "deletion_curve": deleted.tolist(),
    }  # fmt: skip


def randomized_weights(model: Classifier, choices: Choices) -> Judge:
    """How alike the maps of the most probable class stay when layers are drawn anew (Sec. 4.3, Fig. 6).

    The two most probable classes of the trained net compete, also under nets that have forgotten them (the paper does not
    say; a set that changed would compare maps of other classes).
    """
    copies: dict[float, nn.Module] = {
        fraction: randomization.randomized(model, fraction, seed=choices.seed) for fraction in choices.fractions
    }

    def judge(method: JudgedMethod, scenes: Sequence[LabelledScene]) -> list[Row]:
        images, _ = to_batch(scenes, device_of(model))
        with torch.no_grad():
            classes = model(images).logits.topk(2).indices

        def refined(net: nn.Module) -> dict[str, Tensor]:
            assert isinstance(net, Classifier)
            return refine(class_maps(net, images, classes, method), choices.variants)

        names = [(scene.name, top) for scene, top in zip(scenes, classes.tolist(), strict=True)]
        return randomization.compare(refined, model, copies, names)

    return judge


BENCHMARKS: dict[str, Benchmark] = {
    "localization": Benchmark("Localisation", localization, {
        "ra": True, "iou": True, "f1": True, "precision": True, "recall": True,
    }),
    "insertion_deletion": Benchmark(
        "Insertion and deletion", insertion_deletion, {"insertion": True, "deletion": False},
        curves=("insertion_curve", "deletion_curve"),
    ),
    "randomization": Benchmark(
        "Cascading randomisation", randomized_weights, {"spearman": False, "pearson": False, "cosine": False},
        classes="top2",
    ),
}  # fmt: skip


def temperatures(firsts: Sequence[float] = (2, 5, 10), seconds: Sequence[float] = (50, 100, 500)) -> dict[
    str, Temperatures | None
]:  # fmt: skip
    """Variants for the ablation of the lens's inverse temperatures {1, t1, t2} (Appendix D.3, Tables 5 to 11)."""
    found: dict[str, Temperatures | None] = {"": None}
    return found | {f"1, {a:g}, {b:g}": (1.0, float(a), float(b)) for a in firsts for b in seconds}
