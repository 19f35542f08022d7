"""What the file of an experiment says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from guidance.config.fields import Section, Seed
from guidance.evaluation.metrics import is_known, oriented

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]  # it names a folder
Seeds = Annotated[list[Seed], Field(min_length=1)]
ALL, FRONT, BEST = "all", "front", "best"  # what is kept of a finished run, see guidance/experiments/keeping.py
Settings = dict[str, Any]  # dotted name of a setting of a config -> its value


class _Named(Section):
    # `from`, `set` and `list` are words of Python, so the fields have other names than the keys.
    model_config = ConfigDict(**(Section.model_config | {"validate_by_name": False}))


class RunsSettings(_Named):
    """A group of runs: one configuration at all points of a grid, with every seed."""

    label: str = ""
    """For people. Empty: the name of the group."""
    baseline: bool = False
    """Whether it is what the other groups are compared with."""
    published: list[Annotated[str, Field(min_length=1)]] = Field(default=[])
    """Protocols of docs/papers.yaml that every run agrees with; where the scale is small, those of which it is a variant."""
    base: Path | dict[str, Any] | None = None
    """Another config than that of the experiment. null: that one."""
    start: str | None = Field(default=None, alias="from")
    """The stage whose weights it starts from. null: none."""
    settings: Settings = Field(default={}, alias="set")
    """Settings of all its runs, by their dotted names."""
    points: list[Settings] = Field(default=[], alias="list")
    """Settings of one run each."""
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default={})
    """Settings with their values: all combinations are run, each with every item of `list`."""
    seeds: Seeds | None = None
    """Each configuration is run with every one. null: those of the experiment."""

    @field_validator("points", mode="after")
    @classmethod
    def _every_point_says_something(cls, points: list[Settings]) -> list[Settings]:
        if any(not point for point in points):
            raise ValueError("an item is empty; say what it sets, or use `set` for what all runs share")
        return points

    @model_validator(mode="after")
    def _names_are_set_once(self) -> RunsSettings:
        varied = set(self.grid).union(*self.points)
        for what, names in (("set", self.settings), ("list", set().union(*self.points))):
            both = sorted(set(names) & set(self.grid)) or (sorted(set(names) & varied) if what == "set" else [])
            if both:
                raise ValueError(f"{both[0]} is varied, and `{what}` has a value for it too; leave out one of the two")
        if "seed" in varied | set(self.settings):
            raise ValueError("seed: give it as `seeds: [...]`, so that means over seeds can be told from the rest")
        return self


class StageSettings(RunsSettings):
    """Runs that others start from; each is trained once."""

    best: str | None = None
    """Metric of the checkpoint that others start from. null: the last checkpoint of its single run."""

    @field_validator("best")
    @classmethod
    def _can_select(cls, best: str | None) -> str | None:
        if best is not None:
            if not is_known(best):
                raise ValueError(f"there is no metric {best!r}; use one such as f1, accuracy or epg")
            oriented(best, 0.0)
        return best


class GroupSettings(RunsSettings):
    """Runs that are compared."""


class EvaluatedSettings(_Named):
    """What is evaluated of every run when it is finished: each checkpoint of its front."""

    splits: Annotated[list[str], Field(min_length=1)] = Field(default=["test"])
    """The splits of the data set."""
    settings: Settings = Field(default={}, alias="set")
    """Settings of this evaluation alone, by their dotted names, such as another attribution."""
    refit: bool = False
    """Fit the IoU threshold on the validation split with these settings, as `launch/evaluate.py --refit` does."""


class Experiment(_Named):
    """An experiment. What an item does not say, its `base` says."""

    name: str = ""
    """For people. Empty: the name of the file."""
    scale: Literal["full", "small"] | None = None
    """As in the papers, or less; claims about numbers need `full`. null: no experiment of a paper."""
    base: Path | dict[str, Any]
    """A config: a file, relative to the file that names it, or its content."""
    settings: Settings = Field(default={}, alias="set")
    """Settings of all runs, by their dotted names."""
    seeds: Seeds = Field(default=[0])
    """Each configuration is run with every one."""
    stages: dict[Name, StageSettings] = Field(default={})
    """Runs that others start from, by name."""
    groups: dict[Name, GroupSettings] = Field(default={})
    """Runs that are compared, by name."""
    evaluate: list[EvaluatedSettings] = Field(default=[])
    """What is evaluated of every run when it is finished: one item or several."""
    keep: Literal["all", "front", "best"] = "front"
    """Checkpoints that a finished and evaluated run keeps: of its front only what is the best in a metric, or all of it; `all`
    also keeps the state of the optimizer."""

    @field_validator("evaluate", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is given twice")
        return seeds

    @property
    def parts(self) -> dict[str, RunsSettings]:
        """Its stages and groups, by name: in the order in which they may be started."""
        return {name: self.stages[name] for name in _in_order(self.stages)} | dict(self.groups)

    @model_validator(mode="after")
    def _stages_fit_together(self) -> Experiment:
        if not self.stages and not self.groups:
            raise ValueError("it has neither groups nor stages, so there is nothing to run")
        twice = sorted(set(self.stages) & set(self.groups))
        if twice:
            raise ValueError(f"{twice[0]!r} is a stage and a group; give one of them another name")
        _in_order(self.stages)
        for name, part in self.parts.items():
            self._check_start(name, part)
            if part.published and self.scale is None:
                raise ValueError(
                    f"{name}.published needs `scale: full`, or `scale: small` for a variant with other values"
                )
        return self

    def _check_start(self, name: str, part: RunsSettings) -> None:
        place = f"{'stages' if name in self.stages else 'groups'}.{name}"
        if part.seeds is not None and max(Counter(part.seeds).values()) > 1:
            raise ValueError(f"{place}.seeds: a seed is given twice")
        if part.start is None:
            return
        if part.start not in self.stages:
            is_group = " (it is a group: move it to `stages`)" if part.start in self.groups else ""
            known = ", ".join(self.stages) or "none"
            raise ValueError(f"{place}.from: there is no stage {part.start!r}{is_group}; stages: {known}")
        varied = set(part.settings) | set(part.grid).union(*part.points)
        if "model.weights" in varied:
            raise ValueError(
                f"{place}: `from` decides model.weights, and so does a setting of it; leave out one of the two"
            )
        stage, own = self.stages[part.start], part.seeds or self.seeds
        offered = stage.seeds or self.seeds
        missing = [seed for seed in own if len(offered) > 1 and seed not in offered]
        if missing:
            raise ValueError(
                f"{place}.from: the stage {part.start} has no run of seed {missing[0]}, but of {', '.join(map(str, offered))}; "
                "give it that seed, or only one, from which all start"
            )
        if stage.best is None and (stage.grid or len(stage.points) > 1):
            raise ValueError(
                f"stages.{part.start}.best: {name} starts from one of its several runs; say by which metric, such as f1"
            )


def _in_order(stages: dict[str, StageSettings]) -> list[str]:
    """The stages, each after the one that it starts from. Raises ValueError for a circle."""
    ordered: list[str] = []
    waiting = list(stages)
    while waiting:
        ready = [name for name in waiting if stages[name].start not in waiting]
        if not ready:
            raise ValueError(
                f"stages.{waiting[0]}.from: the stages {', '.join(waiting)} start from each other, in a circle"
            )
        ordered += ready[:1]
        waiting.remove(ready[0])
    return ordered
