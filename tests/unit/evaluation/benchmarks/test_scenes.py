"""Which images meet in a scene, where they lie, and which region belongs to which class."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from guidance.benchmarks.class_names import mapped, read_classes
from guidance.benchmarks.scenes import LabelledScene, Pictured, annotated, draw_groups, grids, is_central, pairs

NAMES = [f"{i}.jpg" for i in range(12)]
LABELS = {i: i % 3 for i in range(12)}


def look(position: int) -> Pictured:
    """Image i is of the value i everywhere; its object is the upper left quarter."""
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, :4, :4] = True
    return Pictured(NAMES[position], torch.full((3, 8, 8), float(position)), (LABELS[position],), mask)


def test_groups_have_different_classes_and_use_no_image_twice() -> None:
    groups = draw_groups(LABELS, 3, seed=5)
    assert len(groups) == 4  # 12 images, 4 of each class
    assert sorted(i for group in groups for i in group) == list(range(12))
    assert all({LABELS[i] for i in group} == {0, 1, 2} for group in groups)
    assert draw_groups(LABELS, 3, seed=5) == groups != draw_groups(LABELS, 3, seed=6)
    assert draw_groups(LABELS, 3, count=2, seed=5) == groups[:2]
    with pytest.raises(ValueError, match=r"4 images needs as many classes, but the 12 .* have 3"):
        draw_groups(LABELS, 4)


def test_a_grid() -> None:
    scenes = grids(look, {i: i for i in range(12)}, NAMES, draw=(2, 0))
    scene = scenes.build(1)
    assert len(scenes) == 2
    assert scenes.names[1] == scene.name == " + ".join(NAMES[i] for i in scene.classes)
    assert scene.image.shape == (3, 8, 8)
    assert scene.image[0, ::4, ::4].flatten().tolist() == [float(c) for c in scene.classes]  # row by row
    assert torch.equal(scene.regions.long().sum(0), torch.ones(8, 8, dtype=torch.long))
    assert scene.regions[1, :4, 4:].all()
    assert scene.regions[2, 4:, :4].all()


def test_a_grid_of_masks_and_of_full_size() -> None:
    scene = grids(look, LABELS, NAMES, rows=1, columns=3, size=(8, 24), region="mask", draw=(1, 0)).build(0)
    assert scene.image.shape == (3, 8, 24)
    for k, start in enumerate((0, 8, 16)):
        expected = torch.zeros(8, 24, dtype=torch.bool)
        expected[:4, start : start + 4] = True
        assert torch.equal(scene.regions[k], expected)
    with pytest.raises(ValueError, match="'cell' or 'mask', not 'box'"):
        grids(look, LABELS, NAMES, region="box")


def test_a_scene_with_an_unreadable_file_has_no_class() -> None:
    def broken(position: int) -> Pictured:
        return replace(look(position), readable=position != 3)

    for scenes in (grids(broken, LABELS, NAMES, rows=1, columns=3), pairs(broken, LABELS, NAMES)):
        for name, scene in zip(scenes.names, scenes, strict=True):
            assert bool(scene.classes) == (NAMES[3] not in name.split(" + "))


def test_cells_of_an_odd_grid_leave_no_pixel_out() -> None:
    scene = grids(look, LABELS, NAMES, rows=3, columns=1, draw=(1, 0)).build(0)
    assert [int(region.any(1).sum()) for region in scene.regions] == [3, 2, 3]


def test_pairs_hold_the_middle_halves() -> None:
    def columns(position: int) -> Pictured:
        return replace(look(position), image=torch.arange(8.0).expand(3, 8, 8) + 100 * position)

    scene = pairs(columns, LABELS, NAMES, draw=(1, 3)).build(0)
    first, second = (NAMES.index(name) for name in scene.name.split(" + "))
    assert scene.image[0, 0].tolist() == [100 * p + x for p in (first, second) for x in (2, 3, 4, 5)]
    assert scene.regions[0, :, :4].all()
    assert not scene.regions[0, :, 4:].any()
    assert torch.equal(scene.regions[1], ~scene.regions[0])


@pytest.mark.parametrize(("left", "central"), [(1, True), (2, False)])
def test_central_objects(left: int, central: bool) -> None:
    mask = torch.zeros(1, 20, dtype=torch.bool)  # the middle half is 5 to 14
    mask[0, 5:9] = True
    mask[0, :left] = True
    assert is_central(mask) == central  # 4 of 5, and 4 of 6
    assert not is_central(torch.zeros(1, 20, dtype=torch.bool))


def test_small_regions_are_no_classes_of_a_scene() -> None:
    masks = torch.zeros(2, 10, 10, dtype=torch.bool)
    masks[0, 0, 0] = masks[1, 0, :2] = True
    scenes = annotated(lambda i: Pictured("a", torch.zeros(3, 10, 10), (4, 7), masks), [0], ["a"], smallest=0.02)
    scene = scenes.build(0)
    assert scene.classes == (7,)
    assert torch.equal(scene.regions, masks[1:])


def test_a_scene_has_different_classes_and_a_region_for_each() -> None:
    with pytest.raises(ValueError, match="must differ"):
        LabelledScene("a", torch.zeros(3, 2, 2), (1, 1), torch.zeros(2, 2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="regions"):
        LabelledScene("a", torch.zeros(3, 2, 2), (1, 2), torch.zeros(1, 2, 2, dtype=torch.bool))


def test_coco_classes_mean_those_of_imagenet() -> None:
    from torchvision.models import ResNet50_Weights

    nets = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    ours = ("person", "horse", "cup", "parking meter", "sink", "giraffe")
    found = read_classes("coco_to_imagenet", ours, nets)
    assert found == {1: (339,), 2: (968, 504), 3: (704,), 4: (896,)}
    with pytest.raises(ValueError, match="no class of this net of 2 classes"):
        read_classes("coco_to_imagenet", ours, ["cat", "dog"])


def test_mapped_scenes_take_the_most_probable_class_and_join_equal_ones() -> None:
    regions = torch.eye(3, dtype=torch.bool)[:, None]  # [3, 1, 3]
    scene = LabelledScene("a", torch.zeros(3, 1, 3), (0, 1, 2), regions)
    found = mapped(scene, {0: (5, 6), 2: (6,)}, torch.tensor([0, 0, 0, 0, 0, 0.1, 0.2]))
    assert found.classes == (6,)
    assert found.regions[0].tolist() == [[True, False, True]]
    assert mapped(scene, {}, torch.zeros(7)).classes == ()
