"""PASCAL VOC XML of one's own, as LabelImg and others write it: a file for each image, boxes counted from 1."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path, PurePosixPath

from guidance.data.formats.annotations import AnnotatedImage, AnnotatedObject, Annotations, Remarks
from guidance.data.formats.pictures import Pictures, settle
from guidance.data.formats.splits import images_by_stem, link_images, read_lists, split_name
from guidance.data.reading.decode import UnreadableError
from guidance.data.reading.files import Box
from guidance.data.reading.xml_files import annotated_box, annotated_size, read_xml

FLAGS = ("difficult", "truncated", "occluded")  # of an object; 0 says nothing
DETAILS = ("pose", "attributes", "part", "polygon", "point", "mask", "robndbox")


def read_voc_xml(source: Path, images: Path) -> Annotations:
    """XML files below `source`, or below its folder Annotations, with the splits of ImageSets/Main where there are any.

    As in the published sets, xmin counts from 1 and xmax is inside the box: here x0 = xmin - 1 and x1 = xmax. Files that
    count from 0 so begin at -1 at the border, and are cut there and counted. A size that is missing is the image's own.
    Classes are in alphabetical order.
    """
    pictures, remarks = Pictures(images), Remarks()
    found: dict[str, AnnotatedImage] = {}
    folder = source / "Annotations" if (source / "Annotations").is_dir() else source
    files = sorted(folder.rglob("*.xml"))
    if not files:
        raise ValueError(f"{folder} holds no .xml; --from voc expects the folder of the XML files, or the one above it")
    splits = read_lists(source / "ImageSets/Main", pictures, remarks)
    for path in files:
        try:
            image = _read_file(path, pictures, remarks, path.relative_to(folder).with_suffix("").as_posix())
        except UnreadableError as error:
            remarks.fault(str(error))
            continue
        except ValueError as error:
            remarks.fault(f"{error} ({path})" if str(path) not in str(error) else str(error))
            continue
        if image.name in found:
            remarks.fault(f"image {image.name} has a second annotation, {path}; remove one of the two")
        elif splits and image.name not in splits:
            remarks.lose("images that are in no list of ImageSets/Main, left out", image.name)
            found[image.name] = image
        else:
            found[image.name] = replace(image, split=splits.get(image.name, ""))
    pictures.tell_unnamed(remarks)
    for name in splits:
        if name not in found:
            remarks.fault(f"image {name} is in a list of {source / 'ImageSets/Main'}, but has no usable annotation")
    kept = tuple(image for image in found.values() if image.split or not splits)
    if (source / "SegmentationClass").is_dir():
        remarks.lose("folders of segmentations", str(source / "SegmentationClass"))
    classes = tuple(sorted({item.label for image in kept for item in image.objects}))
    return Annotations(classes, kept, remarks.lost, remarks.faults)


def _read_file(path: Path, pictures: Pictures, remarks: Remarks, stem: str) -> AnnotatedImage:
    root = read_xml(path)
    try:
        name = pictures.find(stem)
    except ValueError:
        name = pictures.find((root.findtext("filename") or stem).strip())
    objects = []
    for node in root.findall("object"):
        label = (node.findtext("name") or "").strip()
        try:
            box = annotated_box(node)
        except ValueError:
            remarks.fault(f"an object {label!r} in {path} has no <bndbox> with four numbers; correct the file")
            continue
        if not label:
            remarks.fault(f"an object in {path} has no <name>; correct the file")
            continue
        for flag in FLAGS:
            if (node.findtext(flag) or "0").strip() not in ("0", "", "false", "False"):
                remarks.lose(f"marks '{flag}'", name)
        for detail in DETAILS:
            if node.find(detail) is not None and (node.findtext(detail) or "").strip() not in ("Unspecified",):
                remarks.lose(f"entries '{detail}' of objects", name)
        x0, y0, x1, y1 = box
        objects.append(AnnotatedObject(label, (x0 - 1, y0 - 1, x1, y1)))
    return settle(name, objects, pictures.header(name), annotated_size(root), True, remarks)


def write_voc_xml(annotations: Annotations, images: Path, output: Path) -> dict[str, tuple[str, ...]]:
    """JPEGImages (see `link_images`), Annotations/<image>.xml and, where there are splits, ImageSets/Main/<split>.txt."""
    remarks = Remarks()
    link_images(images, output / "JPEGImages")
    lists: dict[str, list[str]] = {}
    for image, stem in images_by_stem(annotations, "VOC"):
        path = output / "Annotations" / f"{stem}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        tree = ElementTree.ElementTree(_describe(image, remarks))
        ElementTree.indent(tree)
        tree.write(path, encoding="utf-8")
        if image.split:
            lists.setdefault(split_name(image.split), []).append(stem)
    for split, names in lists.items():
        path = output / "ImageSets/Main" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names) + "\n", encoding="utf-8")
    return remarks.lost


def _describe(image: AnnotatedImage, remarks: Remarks) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _add(root, "filename", PurePosixPath(image.name).name)
    size = ElementTree.SubElement(root, "size")
    for key, side in (("width", image.size[1]), ("height", image.size[0]), ("depth", 3)):
        _add(size, key, str(side))
    for item in image.objects:
        if item.never or item.box is None:
            remarks.lose("boxes marked 'never'" if item.never else "classes of an image without a box", image.name)
            continue
        if item.segmentation is not None:
            remarks.lose("segmentations", image.name)
        node = ElementTree.SubElement(root, "object")
        _add(node, "name", item.label)
        _add(node, "difficult", "0")
        box = ElementTree.SubElement(node, "bndbox")
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), _one_based(item.box), strict=True):
            _add(box, key, f"{value:.10g}")
    return root


def _one_based(box: Box) -> Box:
    x0, y0, x1, y1 = box
    return x0 + 1, y0 + 1, x1, y1


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = text
