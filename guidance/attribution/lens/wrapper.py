"""Any method of attribution through the lens, as a method: for evaluation and to be trained through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from guidance.attribution.explain import method_of, one_hot, run
from guidance.attribution.gradient import forward_of
from guidance.attribution.lens.class_sets import competing, find_class_set, label_classes
from guidance.attribution.lens.competition import INVERSE_TEMPERATURES, lens
from guidance.attribution.request import Explainable, Method, Request


def with_lens(
    method: Method,
    *,
    classes: str | Sequence[int] = "top2",
    inverse_temperatures: Sequence[float] = INVERSE_TEMPERATURES,
    normalize: bool = False,
    magnitude: bool = False,
    threshold: float = 0.0,
) -> Method:
    """`method`, whose maps the lens refines against those of competing classes, from the same forward pass; see `lens`.

    `classes`: a name in CLASS_SETS, such as "top2" (from the logits of each image), or the classes themselves. The explained
    class always competes, and joins them where it is not among them. `Request.classes` [M, C], where a request has them, are
    taken instead; "ground_truth" needs them. The wrapped method has the traits of `method`: what cannot be trained through
    cannot be so through the lens either.

    Raises ValueError for an unknown name, and, when maps are made, for a class that the net does not have, for missing
    `Request.classes`, and for seeds that are not of single classes.
    """
    chosen, given = (find_class_set(classes), []) if isinstance(classes, str) else (None, list(classes))
    if chosen is None and not given:
        raise ValueError("classes names none; give those that compete, or a set such as 'top2'")

    def sets(logits: Tensor, request: Request) -> Tensor:
        """The classes that compete for each map [M, C], beside the explained one."""
        if request.classes is not None:
            return request.classes
        if chosen is None:
            return _given(given, logits)
        row, k = chosen
        if row.choose is None:
            raise ValueError(
                f"the lens over the classes {classes!r} needs to know the classes of each image: name them in Request.classes, "
                "or choose others, such as 'top2'"
            )
        return row.choose(logits, k)

    def function(model: Explainable, request: Request) -> Tensor:
        logits = forward_of(request).logits.detach().index_select(0, request.rows)
        explained = _explained(request)
        every = torch.cat((explained[:, None], sets(logits, request)), dim=1)
        maps = class_maps(method, model, request, every)
        return lens(
            maps, inverse_temperatures=inverse_temperatures, normalize=normalize, magnitude=magnitude, threshold=threshold,
            present=competing(every).T,
        )[0]  # fmt: skip

    wrapped = method.wrapped(function, f"{method.title or 'maps'} + lens")
    return replace(wrapped, needs_classes=chosen is not None and chosen[0].choose is None)


def needed_classes(
    method: str | Method, targets: Tensor, rows: Tensor, explained: Tensor, *, most: int | None = None
) -> Tensor | None:
    """`label_classes` for `Request.classes`; None for a method that does not ask for them."""
    return label_classes(targets, rows, explained, most) if method_of(method).needs_classes else None


def class_maps(method: Method, model: Explainable, request: Request, classes: Tensor) -> Tensor:
    """The maps of several classes of each image of a request: `classes` [M, C] long -> [C, M, h, w], from its forward pass."""
    number = request.seed.shape[1]
    if request.create_graph:
        # As many passes as columns: which classes are the same only the device knows, and a step must not wait for it.
        columns = [replace(request, seed=one_hot(column, number), classes=None) for column in classes.T]
        return torch.stack([run(method, model, column) for column in columns])
    # Every class of an image once, however many maps it competes for.
    pairs, where = torch.unique(request.rows[:, None] * number + classes, return_inverse=True)
    rows = pairs // number
    rounds = int(rows.bincount().max()) if len(rows) else request.rounds
    maps = run(
        method, model, replace(request, rows=rows, seed=one_hot(pairs % number, number), classes=None, rounds=rounds)
    )
    return maps[where.T]


def _explained(request: Request) -> Tensor:
    """The class that each map explains [M]."""
    seed = request.seed
    explained = seed.argmax(1)
    if not request.create_graph and not torch.equal(seed, one_hot(explained, seed.shape[1]).to(seed)):
        raise ValueError("the lens compares classes: every seed must be one_hot of a class, not a sum of logits")
    return explained


def _given(classes: Sequence[int], logits: Tensor) -> Tensor:
    unknown = [k for k in classes if not 0 <= k < logits.shape[1]]
    if unknown:
        raise ValueError(
            f"the lens names the class {unknown[0]}, but the net has the classes 0 to {logits.shape[1] - 1}"
        )
    return torch.tensor(classes, device=logits.device).expand(len(logits), -1)
