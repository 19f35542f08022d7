"""The data sections of a config: what every data set has, and one section for each set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from guidance.config.fields import FREE, Count, Fraction, FreeOnResume, NotNegative, Section, Seed, Text, ToText

# Crops are cut from the squares of a cache instead of from the files' images.
CACHE = FreeOnResume(unless=lambda config: config.data.augmentation == "crop_flip")


class CommonData(Section):
    """What every data set has."""

    single_label: ClassVar[bool] = False  # every image has exactly one class
    offers: ClassVar[tuple[str, ...]] = ()  # of "groups" and "segmentations"
    relabels: ClassVar[tuple[str, ...]] = ()  # settings that give the same images other classes, as many
    name: str  # of the data set; a section allows its own alone, Literal["..."]
    root: Annotated[Path, FREE]
    train_split: str = "train"
    val_split: str = "val"
    image_size: Count = 224
    crop: Literal["none", "center"] = "none"  # of training images: stretched to a square, or the square in the middle
    augmentation: Literal["none", "flip", "crop_flip", "randaugment", "randaugment_only"] = "none"
    randaugment_ops: Count = 3
    randaugment_magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    annotated_fraction: Fraction = 1.0  # share of images whose regions are used; subsets are nested
    # what it is a share of: the training images that have a region under `region`, or all training images
    annotated_of: Literal["regions", "images"] = "regions"
    region: Literal["box", "segment", "best"] = "box"  # guided mask of a class; best: its segmentation, else its boxes
    dilation: NotNegative = 0.0  # of training boxes: each side grows by this fraction of the width or height
    classes_per_image: Literal["one", "all"] = "one"  # guided classes of an image: one drawn at random, or all
    orientation: Literal["stored", "displayed"] = "stored"  # which pixels annotations refer to: see decode.read_image
    on_error: Annotated[Literal["raise", "skip"], FREE] = "raise"  # unreadable images and impossible boxes
    check: Annotated[Literal["pixels", "headers"], FREE] = "pixels"  # how closely all images are looked at beforehand
    num_workers: Annotated[int, Field(ge=0), FREE] = 2  # loader processes of each training process
    # Folder of the decoded cache, see guidance/data/cache/images.py; null decodes files every time.
    cache: Annotated[Path | None, CACHE] = None
    # Of cached training images; more than image_size gives crop_flip finer crops.
    cache_size: Annotated[Count | None, CACHE] = None

    @model_validator(mode="after")
    def _crop_fits(self) -> CommonData:
        if self.crop != "none" and self.augmentation == "crop_flip":
            raise ValueError(
                f"crop {self.crop!r} has no place before augmentation 'crop_flip', which crops by itself; leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _cache_fits(self) -> CommonData:
        size = self.cache_size
        if self.cache is None or size in (None, self.image_size):
            return self
        if self.augmentation != "crop_flip":
            raise ValueError(
                f"cache_size {size} differs from image_size {self.image_size}, which serves crop_flip only; leave it out"
            )
        if size < self.image_size:
            raise ValueError(f"cache_size {size} is smaller than image_size {self.image_size}; crops would be blurred")
        return self


class HeldOutData(CommonData):
    """A set without a validation split of its own: it is held out from the training images."""

    val_fraction: Fraction = 0.2  # of the training images
    split_seed: Seed = 0  # chooses them; apart from `seed`, so that runs of several seeds share their splits


class VOCData(CommonData):
    offers: ClassVar[tuple[str, ...]] = ("segmentations",)
    name: Literal["voc"]
    year: Annotated[Text, Field(pattern=r"^20\d\d$")] = "2007"
    difficult: bool = True  # whether objects marked difficult count, as in the published code


class COCOData(HeldOutData):
    offers: ClassVar[tuple[str, ...]] = ("segmentations",)
    name: Literal["coco"]
    year: Annotated[Literal["2014", "2017"], ToText] = "2014"
    crowd: bool = True  # whether crowd annotations count, as in the published code
    val_fraction: Fraction = 0.1  # only where the published split's files are absent


class CUBData(HeldOutData):
    single_label: ClassVar[bool] = True
    offers: ClassVar[tuple[str, ...]] = ("segmentations",)
    name: Literal["cub"]


class WaterbirdsData(HeldOutData):
    single_label: ClassVar[bool] = True
    offers: ClassVar[tuple[str, ...]] = ("groups", "fixed group", "segmentations")
    relabels: ClassVar[tuple[str, ...]] = ("task",)
    name: Literal["waterbirds"]
    version: Annotated[Literal["95", "100"], ToText] = "100"
    task: Literal["birds", "background"] = "birds"  # label y with masks inside, or place with masks outside the boxes
    # The published validation split, the same without groups that training lacks, or val_fraction of the training images.
    validation: Literal["official", "filtered", "held_out"] = "official"

    @model_validator(mode="before")
    @classmethod
    def _as_stored_before(cls, content: Any) -> Any:
        """Configs that older runs stored say `filter_validation`, true or false."""
        if not isinstance(content, dict) or "filter_validation" not in content:
            return content
        content = dict(content)
        filtered = content.pop("filter_validation")
        if not isinstance(filtered, bool) or "validation" in content:
            raise ValueError("filter_validation is now validation: official, filtered or held_out; set that alone")
        return content | ({"validation": "filtered"} if filtered else {})


class TravelingBirdsData(HeldOutData):
    single_label: ClassVar[bool] = True
    offers: ClassVar[tuple[str, ...]] = ("segmentations",)
    name: Literal["traveling_birds"]


class ImageNet100Data(HeldOutData):
    single_label: ClassVar[bool] = True
    name: Literal["imagenet100"]
    class_list: str = "imagenet100.txt"  # one WordNet id per line; a path, or a file in `root`


class ImageWoofData(HeldOutData):
    single_label: ClassVar[bool] = True
    name: Literal["imagewoof"]


class HardImageNetData(HeldOutData):
    single_label: ClassVar[bool] = True
    offers: ClassVar[tuple[str, ...]] = ("segmentations",)
    name: Literal["hard_imagenet"]


class CustomData(HeldOutData):
    """Images of one's own."""

    offers: ClassVar[tuple[str, ...]] = ("groups", "segmentations")
    name: Literal["custom"]
    # auto: what lies in `root` tells; classes: a folder for each class, without splits, to evaluate on
    layout: Literal["auto", "coco", "folders", "masks", "classes"] = "auto"
    multi_label: bool = False  # whether an image may have several classes; only with a COCO JSON

    @property
    def single_label(self) -> bool:  # type: ignore[override]  # here it is a setting
        return not self.multi_label


class DemoData(CommonData):
    """A generated set with a spurious background; it is made in `root` if it is not there."""

    single_label: ClassVar[bool] = True
    offers: ClassVar[tuple[str, ...]] = ("groups", "segmentations")
    name: Literal["demo"]
    root: Annotated[Path, FREE] = Path("data/demo")
    image_size: Count = 64
    num_train: Count = 3840
    num_val: Count = 240
    num_test: Count = 900
    correlation: Fraction = 0.97  # of background and class in the training and validation splits
    signs: Literal["shapes", "simple"] = "shapes"  # that tell the classes apart
    seed: Seed = 0


# data.name -> its section, whose settings are those of its loader in guidance.data.DATASETS.
DATA_SECTIONS: dict[str, type[CommonData]] = {
    "voc": VOCData,
    "coco": COCOData,
    "cub": CUBData,
    "waterbirds": WaterbirdsData,
    "traveling_birds": TravelingBirdsData,
    "imagenet100": ImageNet100Data,
    "imagewoof": ImageWoofData,
    "hard_imagenet": HardImageNetData,
    "custom": CustomData,
    "demo": DemoData,
}
