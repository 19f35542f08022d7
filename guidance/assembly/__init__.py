"""Config -> objects: the one place where the parts meet."""

from guidance.assembly.evaluation import Evaluator, build_evaluator, log_remark
from guidance.assembly.nets import build_attribution, build_classifier
from guidance.assembly.objectives import build_objective
from guidance.assembly.optimizers import build_optimizer, learning_rate_factor, parameter_groups
from guidance.assembly.pretrained import data_section, in_classes, pretrained_classes, pretrained_config
from guidance.assembly.sets import build_eval_transform, build_evaluation_dataset, build_source
from guidance.assembly.threshold import describe_evaluation
from guidance.assembly.training import build_trainer

__all__ = [
    "Evaluator",
    "build_attribution",
    "build_classifier",
    "build_eval_transform",
    "build_evaluation_dataset",
    "build_evaluator",
    "build_objective",
    "build_optimizer",
    "build_source",
    "build_trainer",
    "data_section",
    "describe_evaluation",
    "in_classes",
    "learning_rate_factor",
    "log_remark",
    "parameter_groups",
    "pretrained_classes",
    "pretrained_config",
]
