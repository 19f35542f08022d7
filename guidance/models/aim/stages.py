"""What AIM calls the stages of a backbone, and which depths are left of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def stage_depths(depths: Sequence[str], first: int) -> dict[int, str]:
    """The paper's index of each stage -> the depth of the backbone that is its output. `first`: the index of mid1.

    ConvNeXt's four stages are 0 to 3; a ResNet's are 1 to 4, because 0 is its stem.
    """
    return dict(enumerate((depth for depth in depths if depth != "input"), start=first))


def estimating_stages(stages: Iterable[int], stop: int, *, one: bool = False) -> tuple[int, ...]:
    """Those of the `stages` that have a mask estimator of their own: all from `stop` on, or only the last (`one`, Sec. D.3)."""
    masked = tuple(index for index in stages if index >= stop)
    return masked[-1:] if one else masked


def top_down_depths(depths: Sequence[str], stop: str) -> tuple[str, ...]:
    """The depths of AIM around a backbone of `depths`, whose pathway stops at `stop`: those that decide its output alone."""
    return (*(depth for depth in depths[: depths.index(stop) + 1] if depth != "final"), "final")


def check_stop_stage(stop_stage: int, stages: Mapping[int, str], net: str = "this net") -> None:
    """Raise ValueError unless `stop_stage` is one of the `stages` (see `stage_depths`) of `net`."""
    if stop_stage not in stages:
        raise ValueError(
            f"aim.stop_stage: {net} has no stage {stop_stage} that can be masked; it has "
            f"{', '.join(map(str, stages))}, of which the last is the coarsest"
        )
