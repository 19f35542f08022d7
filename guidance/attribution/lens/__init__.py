"""Attribution Lens (Walter et al.): the maps of several classes compete at each cell; what is left is specific to a class."""

from guidance.attribution.lens.class_sets import CLASS_SETS, ClassSet, find_class_set, label_classes
from guidance.attribution.lens.competition import INVERSE_TEMPERATURES, class_shares, lens
from guidance.attribution.lens.wrapper import needed_classes, with_lens

__all__ = [
    "CLASS_SETS",
    "INVERSE_TEMPERATURES",
    "ClassSet",
    "class_shares",
    "find_class_set",
    "label_classes",
    "lens",
    "needed_classes",
    "with_lens",
]
