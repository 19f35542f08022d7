"""The data sections of a config: what every data set has, and one section for each set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from guidance.config.fields import FREE, Count, Fraction, FreeOnResume, NotNegative, Section, Seed, Text, ToText

# Crops are cut from the squares of a cache instead of from the files' images.
CACHE = FreeOnResume(
    unless=lambda config: config.data.augmentation == "crop_flip", exception="data.augmentation is crop_flip"
)


class CommonData(Section):
    """What every data set has."""

    single_label: ClassVar[bool] = False  # every image has exactly one class
    offers: ClassVar[tuple[str, ...]] = ()  # of "groups" and "segmentations"
    relabels: ClassVar[tuple[str, ...]] = ()  # settings that give the same images other classes, as many
    name: str
    """The data set."""
    root: Annotated[Path, FREE]
    """Its folder. Where something is missing there, the error shows the expected tree."""
    train_split: str = "train"
    """What is trained on."""
    val_split: str = "val"
    """What is evaluated after each epoch, and selects checkpoints."""
    image_size: Count = 224
    """Pixels of each side of the square that the net takes."""
    crop: Literal["none", "center"] = "none"
    """Of training images: stretched to a square, or the square in the middle. Of evaluated ones: evaluation.crop."""
    augmentation: Literal["none", "flip", "crop_flip", "randaugment", "randaugment_only"] = "none"
    """Of training images; boxes and masks move with them. randaugment has a flip, too, randaugment_only has none."""
    randaugment_ops: Count = 3
    """randaugment: operations for each image."""
    randaugment_magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    """randaugment: their strength."""
    annotated_fraction: Fraction = 1.0
    """Share of images whose regions are used. Subsets are nested: the 1 % lies in the 10 %."""
    annotated_of: Literal["regions", "images"] = "regions"
    """What annotated_fraction is a share of: the training images that have a region under data.region, or all training
    images."""
    region: Literal["box", "segment", "best"] = "box"
    """Guided mask of a class: its boxes, its segmentation, or (best) its segmentation where it has one, else its boxes."""
    dilation: NotNegative = 0.0
    """Of training boxes: each side grows by this fraction of the width or height."""
    classes_per_image: Literal["one", "all"] = "one"
    """Guided classes of an image: one, drawn at random in each epoch, or all."""
    orientation: Literal["stored", "displayed"] = "stored"
    """Which pixels annotations refer to: those of the file, or those of the picture as EXIF turns it."""
    on_error: Annotated[Literal["raise", "skip"], FREE] = "raise"
    """Unreadable images and impossible boxes: an error, or they are left out and counted."""
    check: Annotated[Literal["pixels", "headers"], FREE] = "pixels"
    """How closely all images are looked at before the first epoch: decoded (shared by the processes), or their headers
    read."""
    num_workers: Annotated[int, Field(ge=0), FREE] = 2
    """Loader processes of each training process."""
    cache: Annotated[Path | None, CACHE] = None
    """Folder for decoded images, built once, renewed for files whose size or time has changed, and shared by all
    processes (150 KB for an image of 224 pixels). null: files are decoded every time."""
    cache_size: Annotated[Count | None, CACHE] = None
    """Pixels of cached training images; more than image_size gives crop_flip finer crops. null: image_size."""

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

    val_fraction: Fraction = 0.2
    """Share of the training images that is held out for validation."""
    split_seed: Seed = 0
    """Chooses them; apart from `seed`, so that runs of several seeds share their splits."""


class VOCData(CommonData):
    offers: ClassVar[tuple[str, ...]] = ("segmentations",)
    name: Literal["voc"]
    """PASCAL VOC, in the layout of VOCdevkit."""
    year: Annotated[Text, Field(pattern=r"^20\d\d$")] = "2007"
    """Of the VOC challenge."""
    difficult: bool = True
    """Whether objects marked difficult count, as in the published code."""


class COCOData(HeldOutData):
    offers: ClassVar[tuple[str, ...]] = ("segmentations",)
    name: Literal["coco"]
    """COCO."""
    year: Annotated[Literal["2014", "2017"], ToText] = "2014"
    """Of the images and annotations."""
    crowd: bool = True
    """Whether crowd annotations count, as in the published code."""
    val_fraction: Fraction = 0.1
    """Share of the training images that is held out, only where the published split's files are absent."""


class CUBData(HeldOutData):
    single_label: ClassVar[bool] = True
    offers: ClassVar[tuple[str, ...]] = ("segmentations",)
    name: Literal["cub"]
    """CUB-200-2011."""


class WaterbirdsData(HeldOutData):
    single_label: ClassVar[bool] = True
    offers: ClassVar[tuple[str, ...]] = ("groups", "fixed group", "segmentations")
    relabels: ClassVar[tuple[str, ...]] = ("task",)
    name: Literal["waterbirds"]
    """Waterbirds, as published, with CUB's boxes beside it."""
    version: Annotated[Literal["95", "100"], ToText] = "100"
    """Per cent of training images whose background is that of their bird."""
    task: Literal["birds", "background"] = "birds"
    """The label is the bird, with masks inside the boxes, or the background, with masks outside them."""
    validation: Literal["official", "filtered", "held_out"] = "official"
    """The published split, the same without groups that training lacks, or val_fraction of the training images."""

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
    """TravelingBirds."""


class ImageNet100Data(HeldOutData):
    single_label: ClassVar[bool] = True
    name: Literal["imagenet100"]
    """A subset of ImageNet's classes."""
    class_list: str = "imagenet100.txt"
    """One WordNet id per line; a path, or a file in data.root."""


class ImageWoofData(HeldOutData):
    single_label: ClassVar[bool] = True
    name: Literal["imagewoof"]
    """Imagewoof: ten breeds of dogs."""


class HardImageNetData(HeldOutData):
    single_label: ClassVar[bool] = True
    offers: ClassVar[tuple[str, ...]] = ("segmentations",)
    name: Literal["hard_imagenet"]
    """Hard ImageNet."""


class CustomData(HeldOutData):
    """Images of one's own."""

    offers: ClassVar[tuple[str, ...]] = ("groups", "segmentations")
    name: Literal["custom"]
    """Images of your own."""
    layout: Literal["auto", "coco", "folders", "masks", "classes"] = "auto"
    """How they lie in data.root; auto finds out. classes: a folder for each class, without splits, to evaluate on."""
    multi_label: bool = False
    """Whether an image may have several classes; only with a COCO JSON."""

    @property
    def single_label(self) -> bool:  # type: ignore[override]  # here it is a setting
        return not self.multi_label


class DemoData(CommonData):
    """A generated set with a spurious background; it is made in `root` if it is not there."""

    single_label: ClassVar[bool] = True
    offers: ClassVar[tuple[str, ...]] = ("groups", "segmentations")
    name: Literal["demo"]
    """Signs on textures that give the class away, generated."""
    root: Annotated[Path, FREE] = Path("data/demo")
    """Its folder; the set is made there if it is not there."""
    image_size: Count = 64
    """Pixels of each side of the generated images."""
    num_train: Count = 3840
    """Training images."""
    num_val: Count = 240
    """Validation images."""
    num_test: Count = 900
    """Test images."""
    correlation: Fraction = 0.97
    """Of background and class in the training and validation splits."""
    signs: Literal["shapes", "simple"] = "shapes"
    """What tells the classes apart; simple ones a small net learns in few steps."""
    seed: Seed = 0
    """Of the generated images."""


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
