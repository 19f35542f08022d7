"""A net, and the gradient that explains it, as one compiled function.

torch.compile has no double backward, so a gradient that a loss is trained through cannot be compiled. A pullback can: it is
ordinary first-order operations. One graph holds the forward pass and the pullback to the explained depth; what methods,
losses and metrics make of the two is little work and runs as ever.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.torch_version import TorchVersion

from guidance.attribution.gradient import asked, pull_back
from guidance.attribution.request import Method, Request, takes_one_gradient
from guidance.models.classifier import Classifier
from guidance.models.layers.normalization import SyncBatchNorm2d
from guidance.models.pullback.rules import Answered
from guidance.models.pullback.rules import explain as rule_of
from guidance.types import Forward

LOG = logging.getLogger(__name__)
# torch 2.6 traces neither contexts of contextlib nor functools.singledispatch, by which the rules of layers are found.
TRACEABLE = TorchVersion(torch.__version__) >= "2.7"
PLAIN = "compile nothing (trainer.compile=false; launch/evaluate.py without --compile)"
# Rules by which torch keeps for the backward pass what is elementwise and could be computed again. Without them it is as fast
# on a CPU, and a guided B-cos step takes a fifth less memory. The names are torch's own, which it may drop.
KEEPING = ("ban_recompute_used_far_apart", "ban_recompute_long_fusible_chains", "ban_recompute_materialized_backward")
FIELDS = ("logits", "features", "masks", "mask_logits", "stage_logits")  # of a Forward, that a compiled net gives


class CompiledNet:
    """`model` as torch.compile runs it: called like the net, and told beforehand what its result will be asked.

    There is a graph for batches of which nothing is explained, one for those of which every image is, once, and one for all
    others; the first batch of each kind waits for its graph. `graphs` counts them. `backend`: of torch.compile. Raises
    ValueError where torch is too old.
    """

    def __init__(self, model: Classifier, *, backend: str = "inductor") -> None:
        if not TRACEABLE:
            raise ValueError(
                f"trainer.compile: torch {torch.__version__} cannot trace how a net is explained; install a newer one, or "
                f"{PLAIN}"
            )
        self.model, self.backend, self.graphs = model, backend, 0
        self._usual = 0  # images of the first batch
        self._compiled = torch.compile(self._run, fullgraph=True, dynamic=False, backend=self._compile)
        # Graphs are only valid for what these tables hold, so what is filled in on the way is filled in before.
        for layer in (*model.modules(), *(x for layers in model.stages.values() for x in layers)):
            rule_of.dispatch(type(layer))

    def __call__(self, images: Tensor, *arguments: Tensor, request: Request | None = None) -> Forward:
        """`model(images, *arguments)`, whose one pullback answers `request`, once; without a request it has none."""
        before, start = self.graphs, time.perf_counter()
        explained = 0 if request is None else len(request.rows)
        depth, seed, rows, kind = None, None, None, "none"
        if request is not None and explained:
            depth, (seed, rows) = request.depth, asked(request, len(images))
            kind = "all" if rows is None else "some"
            if rows is not None and explained == 1:  # another one, which asks nothing: graphs for one alone are others
                seed, rows = functional.pad(seed, (0, 0, 0, 1)), rows.repeat(2)
        self._usual = self._usual or len(images)
        if rows is not None:
            _of_any_number(seed, rows)
        if not torch.is_grad_enabled() or len(images) != self._usual:  # as where unreadable images are left out
            _of_any_number(images, *arguments, seed)
        # Otherwise DistributedDataParallel has the graph cut where its buckets end. The limit is one for all nets of a process.
        with torch._dynamo.config.patch(optimize_ddp=False, recompile_limit=64):
            out, gradient = self._compiled(images, arguments, depth, seed, rows)
        if self.graphs > before:
            seconds = time.perf_counter() - start
            LOG.info("compiled the net for batches of %d images, %s explained, in %.0f s", len(images), kind, seconds)
        answers = (
            {} if request is None else {request.depth: Answered(None if gradient is None else gradient[:explained])}
        )
        return Forward(**out, pullbacks=answers)

    def explainable(self, images: Tensor, request: Request) -> Forward:
        """`model.explainable` for this request alone, without a graph of autograd, for batches of two images or more."""
        with torch.no_grad():
            return self(images.detach(), request=request)

    def _run(
        self, images: Tensor, arguments: tuple[Tensor, ...], depth: str | None, seed: Tensor | None, rows: Tensor | None
    ) -> tuple[dict[str, Any], Tensor | None]:
        if depth is None or torch.is_grad_enabled():
            out = self.model(images, *arguments)
        else:
            out = self.model.explainable(images, depth, graph=False)
        gradient = None if depth is None or seed is None else pull_back(out, depth, seed, rows)
        known = {name: getattr(out, name) for name in FIELDS}
        # Those that are empty by default are of a type that torch.compile cannot return.
        return {name: x for name, x in known.items() if not isinstance(x, MappingProxyType)}, gradient

    def _compile(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        config = torch._functorch.config
        with config.patch({name: False for name in KEEPING if hasattr(config, name)}):
            return torch._dynamo.lookup_backend(self.backend)(graph, inputs)


def check_compilable(
    model: Classifier, image: tuple[int, int, int], method: Method | None = None, depth: str = ""
) -> None:
    """Raise ValueError, which says why, for a net that cannot be compiled in its current mode for images of shape (C, H, W), or
    not with maps of `method` at `depth`.
    """
    if any(
        getattr(module, "statistics", "") == "sync" or isinstance(module, SyncBatchNorm2d) for module in model.modules()
    ):
        raise ValueError(
            "trainer.compile: statistics that are synchronised between processes cannot be compiled; set "
            f"model.batchnorm=local or frozen, or {PLAIN}"
        )
    if model.watched:
        raise ValueError(
            "trainer.compile: the attention of this net has gradients of its own, which torch.compile cannot follow: "
            f"{PLAIN}"
        )
    recorded = [depth for depth in model.depths[1:] if depth not in model.stages]
    if recorded:
        raise ValueError(
            f"trainer.compile: the features of this net at {', '.join(recorded)} are recorded by hooks, because it cannot be "
            f"traced as stages, and hooks cannot be compiled: {PLAIN}"
        )
    if method is None:
        return
    if not takes_one_gradient(method, model):
        raise ValueError(
            f"trainer.compile: {method.title or 'this attribution'} takes more than one gradient of this net, and only one "
            f"that is known beforehand can be compiled: use ixg or bcos, or {PLAIN}"
        )
    if depth not in _pullbacks(model, image):
        raise ValueError(
            f"trainer.compile: this net has no pullback to depth {depth!r}, and a double backward cannot be compiled. X-DNN "
            f"and B-cos nets have one, ResNets and DenseNets with model.batchnorm=frozen; else {PLAIN}"
        )


def _pullbacks(model: Classifier, image: tuple[int, int, int]) -> Mapping[str, Any]:
    """What the net offers in its current mode, without computing anything."""
    state = {name: x.detach().to("meta") for name, x in model.state_dict(keep_vars=True).items()}
    with torch.enable_grad():
        out: Forward = torch.func.functional_call(model, state, (torch.empty(2, *image, device="meta"),))
    return out.pullbacks


def _of_any_number(*tensors: Tensor | None) -> None:
    """Say that a graph shall do for any number of rows, two or more, of these tensors."""
    for x in tensors:
        if x is not None and len(x) > 1:
            torch._dynamo.mark_dynamic(x, 0)
