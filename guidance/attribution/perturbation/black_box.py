"""Perturbation methods of captum: what a net answers when parts of the image are switched off.

They need no gradient and no layer, so they explain any net, at the input alone. What is switched off has the mean colour of
ImageNet (`superpixels.mean_colour`). All maps of one image share its perturbed copies: a further class costs no forward pass.
Draws start from `seed` for every image, so that its map depends neither on the batch that it came in nor on what was explained
before. `batch_size` copies go through the net at once, which bounds the memory and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import ceil
from typing import Any, NamedTuple

import torch
from torch import Tensor

from guidance import distributed
from guidance.attribution.gradient import forward_of
from guidance.attribution.perturbation.superpixels import INSTALL, mean_colour, superpixels
from guidance.attribution.request import Explainable, Request
from guidance.maps import full_precision
from guidance.models.classifier import evaluation_mode
from guidance.progress import Progress

# What captum varies: an image itself, or which of its superpixels are on [P, S] in {0, 1} -> answers for one map [P].
Answers = Callable[[Tensor], Tensor]


class Varied(NamedTuple):
    """What is varied of one image, and how captum's attribution of it becomes a map."""

    present: Tensor  # [1, ...] as in the image
    absent: Tensor  # [1, ...] all switched off
    to_images: Callable[[Tensor], Tensor]  # [P, ...] -> [P, C, H, W]
    to_map: Callable[[Tensor], Tensor]  # [1, ...] -> [H, W]


class Perturbation(NamedTuple):
    """A method that is ready for any image."""

    build: Callable[[Answers], Any]  # captum's object
    arguments: Mapping[str, Any]  # of its `attribute`, beside what is varied
    features: Callable[[Tensor], Varied]  # of an image [1, C, H, W]
    copies: Callable[[int], int]  # number of superpixels -> perturbed copies that it takes, for the progress
    seed: int = 0


def feature_ablation(
    model: Explainable, request: Request, *, segments: int = 100, compactness: float = 10.0, batch_size: int = 32
) -> Tensor:
    """How much the answer falls when one superpixel is switched off, f(x) - f(x without it), at each of its pixels."""
    build, arguments = _captum().FeatureAblation, {"perturbations_per_eval": batch_size}
    return _maps(
        model, request, Perturbation(build, arguments, _superpixels(segments, compactness), lambda count: count + 1)
    )


def occlusion(
    model: Explainable, request: Request, *, patch: int = 15, stride: int = 8, batch_size: int = 32
) -> Tensor:
    """How much the answer falls behind a square of `patch` pixels that moves by `stride`: at a pixel the mean over the places
    that hide it (Zeiler & Fergus 2014, Sec. 4.2).

    ValueError for a patch that does not fit into the images, and a stride that leaves gaps.
    """
    channels, height, width = forward_of(request).features["input"].shape[1:]
    if not 1 <= stride <= patch <= min(height, width):
        raise ValueError(
            f"occlusion needs 1 <= stride <= patch <= side of the images, but has stride {stride}, patch {patch} and images of "
            f"{height} x {width}"
        )
    arguments = {
        "sliding_window_shapes": (channels, patch, patch), "strides": (channels, stride, stride),
        "perturbations_per_eval": batch_size,
    }  # fmt: skip
    places = (ceil((height - patch) / stride) + 1) * (ceil((width - patch) / stride) + 1)
    return _maps(model, request, Perturbation(_captum().Occlusion, arguments, _pixels, lambda count: places + 1))


def shapley(
    model: Explainable, request: Request, *, samples: int = 64, segments: int = 100, compactness: float = 10.0,
    seed: int = 0, batch_size: int = 32,
) -> Tensor:  # fmt: skip
    """Shapley values of superpixels from `samples` permutations (Castro et al. 2009): the mean effect of a superpixel that is
    switched on after those before it. Those of an image sum to f(x) - f(baseline), whatever `samples` is.
    """
    build, arguments = _captum().ShapleyValueSampling, {"n_samples": samples, "perturbations_per_eval": batch_size}
    features = _superpixels(segments, compactness)
    return _maps(model, request, Perturbation(build, arguments, features, lambda count: samples * count + 1, seed))


def kernel_shap(
    model: Explainable, request: Request, *, samples: int = 64, segments: int = 100, compactness: float = 10.0,
    seed: int = 0, batch_size: int = 32,
) -> Tensor:  # fmt: skip
    """Shapley values of superpixels by a weighted regression on `samples` random subsets (Lundberg & Lee 2017, Theorem 2).

    With fewer samples than superpixels, as in the paper, it is the solution of least norm.
    """
    build, arguments = _captum().KernelShap, {"n_samples": samples, "perturbations_per_eval": batch_size}
    return _maps(
        model, request, Perturbation(build, arguments, _superpixels(segments, compactness), lambda count: samples, seed)
    )


def lime(
    model: Explainable, request: Request, *, samples: int = 1000, alpha: float = 0.01, segments: int = 100,
    compactness: float = 10.0, seed: int = 0, batch_size: int = 32,
) -> Tensor:  # fmt: skip
    """LIME: coefficients of a sparse linear model (Lasso) of the answers to `samples` copies, each superpixel of which is on
    with probability 1/2, weighted by their likeness to the image (Ribeiro et al. 2016, Eq. 1 and 2).

    captum's choices: `alpha` 0.01, and the likeness exp(-d^2 / 2), here of the cosine distance d between the superpixels that
    are on. Lasso is not invariant to the scale of the logits: effects below about 4 alpha vanish, and so may all of a net that
    is sure of nothing.
    """

    def build(answers: Answers) -> Any:
        from captum._utils.models.linear_model import SkLearnLasso

        return _captum().Lime(answers, interpretable_model=SkLearnLasso(alpha=alpha))

    arguments = {"n_samples": samples, "perturbations_per_eval": batch_size}
    return _maps(
        model, request, Perturbation(build, arguments, _superpixels(segments, compactness), lambda count: samples, seed)
    )


def perturbation_remark(model: Explainable) -> str:
    """What these methods do to an image; ValueError where what they need is not installed."""
    _captum()
    superpixels(torch.zeros(3, 4, 4), segments=1, compactness=1.0)
    return "what is switched off has the mean colour of ImageNet"


def _pixels(image: Tensor) -> Varied:
    baseline = mean_colour(image[0]).expand_as(image[0])[None]
    return Varied(image, baseline, lambda varied: varied, lambda found: found[0, 0])  # all channels go together


def _superpixels(segments: int, compactness: float) -> Callable[[Tensor], Varied]:
    def varied(image: Tensor) -> Varied:
        labels, baseline = superpixels(image[0], segments=segments, compactness=compactness), mean_colour(image[0])
        present = image.new_ones(1, int(labels.max()) + 1)
        return Varied(
            present, torch.zeros_like(present), lambda on: torch.where(on[:, labels][:, None] > 0.5, image, baseline),
            lambda found: found[0, labels],
        )  # fmt: skip

    return varied


def _maps(model: Explainable, request: Request, plan: Perturbation) -> Tensor:
    """The maps [M, H, W] of a request, image by image."""
    images, rows = forward_of(request).features["input"].detach(), request.rows
    title = request.method if isinstance(request.method, str) else request.method.title
    with full_precision(images) as x, evaluation_mode(model), torch.no_grad():
        maps = x.new_zeros(len(rows), *x.shape[2:])
        explained = sorted(set(rows.tolist()))
        for count, row in enumerate(explained, 1):
            which, features = (rows == row).nonzero().flatten(), plan.features(x[row : row + 1])
            seeds, copies = request.seed[which].to(x.dtype), plan.copies(features.present.shape[1])
            name = f"{title}, image {count} of {len(explained)}"
            with Progress(name, copies, unit="copy", keep=False, shown=distributed.is_main()) as bar:
                recorded = RecordedAnswers(model, features, seeds, bar)
                for column, m in enumerate(which.tolist()):
                    method = plan.build(recorded.answers(column))
                    with _seeded(plan.seed, x.device):
                        found = method.attribute(features.present, baselines=features.absent, **plan.arguments)
                    maps[m] = features.to_map(found.to(maps.dtype))
    return maps


class RecordedAnswers:
    """What a net answers to the perturbed copies of one image: computed for the first of its maps, repeated for the others.

    With the same seed a method asks for the same copies, in the same order.
    """

    def __init__(self, model: Explainable, features: Varied, seeds: Tensor, bar: Progress) -> None:
        self.model, self.features, self.seeds, self.bar = model, features, seeds, bar  # seeds [m, K]
        self.known: list[Tensor] = []  # call -> [P, m]

    def answers(self, column: int) -> Answers:
        """Those of one map, from the first call on."""
        position = -1

        def answer(varied: Tensor) -> Tensor:
            nonlocal position
            position += 1
            if position == len(self.known):
                logits = self.model.upper(self.features.to_images(varied), "input").logits
                self.known.append(logits.to(self.seeds.dtype) @ self.seeds.T)
                for _ in range(len(varied)):
                    self.bar.update()
            assert len(self.known[position]) == len(varied)
            return self.known[position][:, column]

        return answer


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """A block that draws from `seed`; the generators are left as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _captum() -> Any:
    try:
        import captum.attr
        import sklearn.linear_model  # noqa: F401  # what LIME and KernelSHAP fit with
    except ModuleNotFoundError as error:
        raise ValueError(f"perturbation methods need captum and scikit-learn: {INSTALL}") from error
    return captum.attr
