"""A complete config: its sections, joined with those of data sets and training modes."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import (
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)

from guidance.config.attributions import AttributionSettings
from guidance.config.checks import check_config
from guidance.config.data import DATA_SECTIONS, CommonData
from guidance.config.fields import FREE, Section, Seed
from guidance.config.modes import MODES, Mode
from guidance.config.pretrained import as_trained
from guidance.config.sections import (
    EvaluationSettings,
    LogSettings,
    ModelSettings,
    ObjectiveSettings,
    OptimizerSettings,
    ParetoSettings,
    ScheduleSettings,
    TrainerSettings,
)
from guidance.importing import import_recorded
from guidance.types import lookup


class Config(Section):
    """A complete run. `config_type` adds a section for each training mode, and those of the data sets as choices of `data`."""

    seed: Seed = 0
    """Of fresh weights, order, augmentation and the drawn class."""
    imports: Annotated[list[str], FREE] = Field(default_factory=list)
    """Modules that add rows of one's own to the tables; whatever reads the config imports them."""
    data: SerializeAsAny[CommonData]
    """The data set; each has settings of its own."""
    model: ModelSettings = ModelSettings()
    """The net."""
    objective: ObjectiveSettings = ObjectiveSettings()
    """What is trained."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """The optimizer."""
    schedule: ScheduleSettings = ScheduleSettings()
    """Of the learning rate."""
    trainer: TrainerSettings = TrainerSettings()
    """The loop."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """After each epoch, and by launch/evaluate.py."""
    pareto: ParetoSettings = ParetoSettings()
    """Which checkpoints are kept."""
    log: Annotated[LogSettings, FREE] = LogSettings()
    """What is logged."""

    @property
    def mode(self) -> Mode:
        """The row of its training mode."""
        return MODES[self.objective.mode]

    @property
    def evaluated_attribution(self) -> AttributionSettings:
        """The attribution that evaluation uses: the guided one, with what `evaluation.attribution` says."""
        return self.evaluation.attribution.merged(self.objective.attribution)

    @property
    def guiding_weights(self) -> dict[str, float]:
        """The settings that, above 0, need annotated regions, with their values."""
        weights = {"objective.localization.weight": self.objective.localization.weight}
        if self.mode.region_weight is not None:
            name = f"{self.objective.mode}.{self.mode.region_weight}"
            weights[name] = getattr(getattr(self, self.objective.mode), self.mode.region_weight)
        return weights

    @property
    def guides(self) -> bool:
        """Whether anything is learnt from annotated regions."""
        return max(self.guiding_weights.values()) > 0

    @property
    def guiding_settings(self) -> str:
        """The settings that could have done so, for messages."""
        return " (or ".join(self.guiding_weights) + ")" * (len(self.guiding_weights) - 1)

    def __reduce__(self) -> tuple[Any, ...]:
        # Its class is made from tables: another process makes it from its own.
        return _restore, (self.model_dump(mode="json"),)

    @field_validator("objective")
    @classmethod
    def _mode_is_known(cls, objective: ObjectiveSettings) -> ObjectiveSettings:
        lookup(MODES, objective.mode, "training mode (objective.mode)")
        return objective

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Config:
        if self.mode.selects is not None and "metrics" not in self.pareto.model_fields_set:
            self.pareto = self.pareto.model_copy(update={"metrics": self.mode.selects(self)})
        self.model, self.data = as_trained(self.model, self.data)
        check_config(self)
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A stored config must be readable when the defaults of a section that it does not use have changed.
        content: dict[str, Any] = handler(self)
        for name in MODES:
            if name != self.objective.mode:
                content.pop(name, None)
        if not self.imports:
            content.pop("imports", None)
        return content


def _restore(content: dict[str, Any]) -> Config:
    import_recorded(content)
    return config_type().model_validate(content)


def config_type() -> type[Config]:
    """The class of configs with every data set of DATA_SECTIONS and every mode of MODES, also those added meanwhile.

    Raises ValueError for a mode whose section cannot be one of a config.
    """
    modes = {name: mode.section for name, mode in MODES.items() if mode.section is not None}
    key = (tuple(DATA_SECTIONS.items()), tuple(modes.items()))
    if key not in _TYPES:
        said = Config.model_fields["data"].description
        data: Any = Annotated[reduce(or_, DATA_SECTIONS.values()), Field(discriminator="name", description=said)]
        fields: dict[str, Any] = {"data": (data, ...)}
        for name, section in modes.items():
            missing = [key for key, field in section.model_fields.items() if field.is_required()]
            if hasattr(Config, name) or name in Config.model_fields or missing:
                reason = (
                    f"{', '.join(missing)} of its section has no default"
                    if missing
                    else "configs have something of that name"
                )
                raise ValueError(f"the training mode {name!r} of MODES cannot be used: {reason}")
            fields[name] = (section, Field(default=section(), description=section.__doc__))
        _TYPES[key] = create_model("Config", __base__=Config, **fields)
    return _TYPES[key]


_TYPES: dict[Any, type[Config]] = {}  # making one takes a while


def check_processes(config: Config, processes: int) -> None:
    """Raise ValueError where the global batch cannot be shared equally by the processes and the accumulated chunks."""
    size, accumulate = config.trainer.batch_size, config.trainer.accumulate
    if size % (processes * accumulate):
        parts = processes * accumulate
        near = [n for n in (size // parts * parts, (size // parts + 1) * parts) if n > 0]
        raise ValueError(
            f"trainer.batch_size: {size} images cannot be shared equally by {processes} process(es) with "
            f"trainer.accumulate {accumulate}; use {' or '.join(map(str, near))}"
        )
