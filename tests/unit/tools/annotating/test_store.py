"""The file that is edited: nothing in it is lost, by whomever, and it is whole at any moment."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from guidance.annotating import layouts
from guidance.annotating.layouts import find_place
from guidance.annotating.ordering import ImageScores, sort_images
from guidance.annotating.store import StaleError, Store
from guidance.data.sets.custom import load_custom
from tests.support.data.layouts import make_custom_folders, make_custom_masks, write_text
from tests.support.data.pictures import write_picture
from tests.unit.tools.annotating.conftest import EVIL, NAMES, boxes_in, read, write_set


def sent(store: Store, number: int) -> list[dict[str, Any]]:
    """The boxes of an image, as the page sends them."""
    return [{"key": b.key, "label": b.label, "box": list(b.box), "never": b.never} for b in store.state(number).boxes]


def save(store: Store, number: int, boxes: list[dict[str, Any]]) -> None:
    store.save(number, store.state(number).revision, boxes)


def new(*box: float, label: int = 0, never: bool = False) -> dict[str, Any]:
    return {"key": None, "label": label, "box": list(box), "never": never}


def test_what_is_not_edited_stays(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    before, store = read(root), Store(find_place(root))
    assert [entry.name for entry in store.entries] == list(NAMES)
    assert [entry.group for entry in store.entries] == ["in", "out", "in"]
    assert store.classes == ("cat", "dog")  # by their ids
    assert store.summary() == [((0,), 1), ((1,), 0), ((), 0)]
    save(store, 2, [new(0, 0, 300, 200, label=1, never=True)])
    save(store, 0, [*sent(store, 0), new(1, 2, 3.5, 4)])
    after = read(root)
    assert after["images"] == [*before["images"], {"id": 1, "file_name": EVIL, "height": 200, "width": 300}]
    assert {key: after[key] for key in ("info", "categories")} == {key: before[key] for key in ("info", "categories")}
    assert after["annotations"] == [
        *before["annotations"],
        {"id": 8, "image_id": 1, "category_id": 5, "bbox": [0, 0, 300, 200], "never": True},
        {"id": 9, "image_id": "i0", "category_id": 3, "bbox": [1, 2, 2.5, 2]},
    ]
    assert load_custom(root, "train", multi_label=True, val_fraction=0.0).records[0].boxes == (
        (10, 20, 40, 60),
        (1, 2, 3.5, 4),
    )


def test_annotations_that_others_wrote_badly_stay(tmp_path: Path) -> None:
    """Without a box or a known category they are not shown, and kept; without an id they get one; twice the same is told."""
    root = write_set(tmp_path)
    content = read(root)
    strange: list[dict[str, Any]] = [
        {"id": 20, "image_id": "i0", "category_id": 99, "bbox": [1, 1, 5, 5]},
        {"id": 21, "image_id": "i0", "bbox": [1, 1, 5, 5]},
        {"id": 22, "image_id": "i0", "category_id": 3, "bbox": [1, None, 5, 5]},
        {"image_id": "i0", "category_id": 3, "bbox": [2, 2, 5, 5], "by": "you"},
    ]  # fmt: skip
    content["annotations"] += strange
    (root / "annotations.json").write_text(json.dumps(content))
    store = Store(find_place(root))
    assert [(box.key, box.box) for box in store.state(0).boxes] == [(7, (10, 20, 40, 60)), (23, (2, 2, 7, 7))]
    save(store, 0, sent(store, 0))
    content["annotations"][-1]["id"] = 23
    assert read(root) == content
    content["annotations"][-1]["id"] = 22
    (root / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="annotation 22 is listed twice"):
        Store(find_place(root))


def test_what_is_deleted_or_moved_comes_back_whole(tmp_path: Path) -> None:
    """An outline belongs to the place of its box: it goes with it, and is there again after undo."""
    store = Store(find_place(write_set(tmp_path)))
    (whole,) = boxes_in(tmp_path, "0.png")
    (box,) = sent(store, 0)
    save(store, 0, [])
    assert boxes_in(tmp_path, "0.png") == []
    save(store, 0, [box])
    assert boxes_in(tmp_path, "0.png") == [whole]
    save(store, 0, [box | {"box": [10, 20, 50, 60], "label": 1, "never": True}])
    moved = {key: value for key, value in whole.items() if key != "segmentation"}
    assert boxes_in(tmp_path, "0.png") == [
        moved | {"bbox": [10, 20, 40, 40], "area": 1600, "category_id": 5, "never": True}
    ]
    save(store, 0, [box])
    assert boxes_in(tmp_path, "0.png") == [whole]
    with pytest.raises(ValueError, match="belongs to another image"):
        save(store, 1, [box])
    assert [entry["id"] for entry in read(tmp_path)["annotations"]] == [0, 7]


def test_a_change_to_what_has_changed_is_refused(tmp_path: Path) -> None:
    """By another tab, or by another program; other images may be changed at once."""
    root = write_set(tmp_path)
    store, other = Store(find_place(root)), Store(find_place(root))
    revision = store.state(0).revision
    save(other, 0, [*sent(other, 0), new(1, 1, 9, 9)])
    with pytest.raises(StaleError, match=r"0\.png has been changed elsewhere"):
        store.save(0, revision, [])
    save(store, 1, [new(5, 5, 9, 9)])
    assert len(boxes_in(root, "0.png")) == 2
    assert len(boxes_in(root, "deep/1.png")) == 1
    assert store.state(0) == other.state(0)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (new(5, 5, 5, 9), "has no area"),
        (new(301, 0, 310, 9), "lies outside"),
        (new(0, 0, 9, float("nan")), "four finite numbers"),
        (new(0, 0, 9, 9, label=2), "has the class 2, expected 0 to 1"),
        (new(0, 0, 9, 9) | {"never": 1}, "never that is not true or false"),
        (new(0, 0, 9, 9) | {"key": [1]}, "no number or text"),
        ("box", "a box is an object"),
    ],
)
def test_a_box_that_cannot_be_used_changes_nothing(tmp_path: Path, box: Any, message: str) -> None:
    root = write_set(tmp_path)
    store, content = Store(find_place(root)), (root / "annotations.json").read_bytes()
    with pytest.raises(ValueError, match=message):
        save(store, 0, [new(1, 1, 9, 9), box])
    assert (root / "annotations.json").read_bytes() == content


def _save_for_ever(root: Path) -> None:
    store = Store(find_place(root))
    while True:
        for count in (0, 400):
            save(store, 1, [new(i % 90, 1, i % 90 + 5, 9) for i in range(count)])


def test_a_kill_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    for _ in range(3):
        child = multiprocessing.get_context("fork").Process(target=_save_for_ever, args=(root,))
        child.start()
        written = os.stat(root / "annotations.json").st_mtime_ns
        while os.stat(root / "annotations.json").st_mtime_ns == written:
            time.sleep(0.001)
        time.sleep(0.05)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert len(boxes_in(root, "deep/1.png")) in (0, 400)
        assert len(boxes_in(root, "0.png")) == 1


def test_no_file_outside_the_folder_is_an_image(tmp_path: Path) -> None:
    """Links that leave the folder, paths that do, and those that come to do later."""
    root = write_set(tmp_path / "set")
    secret = write_picture(tmp_path / "secret.png")
    (root / "images/link.png").symlink_to(secret)
    (root / "images/loop.png").symlink_to("loop.png")
    (root / "images/inside.png").symlink_to("0.png")
    (root / "images/folder").symlink_to(tmp_path)
    content = read(root)
    bad = ["../../secret.png", str(secret), "folder/secret.png", "gone.png", "nul\0.png", "deep"]
    content["images"] += [{"id": 100 + i, "file_name": name} for i, name in enumerate(bad)]
    (root / "annotations.json").write_text(json.dumps(content))
    store = Store(find_place(root))
    assert {entry.name for entry in store.entries} == {*NAMES, "inside.png"}
    assert set(store.left_out) == {*bad, "link.png", "loop.png"}
    (root / "images/0.png").unlink()
    (root / "images/0.png").symlink_to(secret)
    for number in (0, -1, len(store.entries)):
        with pytest.raises(KeyError):
            store.path(number)


def test_folders_become_a_set_of_ones_own(tmp_path: Path) -> None:
    """Splits, classes, boxes and masks of folders are kept; the set beside them is read as the folders were."""
    for make, name in ((make_custom_folders, "folders"), (make_custom_masks, "masks")):
        make(tmp_path / name)
        store = Store(place := find_place(tmp_path / name))
        assert place.root == tmp_path / f"{name}_annotated"
        assert not store.left_out
        for split in ("train", "test"):
            before, after = (load_custom(root, split, val_fraction=0.0) for root in (tmp_path / name, place.root))
            assert before.classes == after.classes == store.classes
            for one, other in zip(before.records, after.records, strict=True):
                assert (other.classes, other.boxes, other.never_boxes) == (one.classes, one.boxes, one.never_boxes)
                if one.segmentation is not None:
                    masks = [
                        each.read_segments(record)
                        for each, record in ((before, one), (after, other))
                        if each.read_segments
                    ]
                    assert all(np.array_equal(masks[0][k], masks[1][k]) for k in one.classes)
        assert find_place(tmp_path / name) == place  # it is not made again


def test_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(tmp_path / "classes/b/1.png")
    write_picture(tmp_path / "classes/a/2.png")
    store = Store(find_place(tmp_path / "classes", tmp_path / "out"), classes=["c", "a"])
    assert (store.classes, [entry.name for entry in store.entries]) == (("a", "b", "c"), ["a/2.png", "b/1.png"])
    assert [summary[0] for summary in store.summary()] == [(0,), (1,)]
    write_picture(tmp_path / "flat/1.png")
    with pytest.raises(ValueError, match="names no class yet"):
        find_place(tmp_path / "flat")
    assert Store(find_place(tmp_path / "flat", classes=["x", "y"])).classes == ("x", "y")
    write_text(
        tmp_path / "bad/annotations.json",
        json.dumps({"images": [{}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}),
    )
    write_picture(tmp_path / "bad/images/1.png")
    with pytest.raises(ValueError, match="has no id or file_name"):
        Store(find_place(tmp_path / "bad"))
    with pytest.raises(ValueError, match="is no folder"):
        find_place(tmp_path / "none")
    assert layouts.MAIN == ("train", "annotations")


def test_boxes_in_the_frame_of_the_displayed_image(tmp_path: Path) -> None:
    picture = Image.new("RGB", (30, 20))
    exif = picture.getexif()
    exif[0x0112] = 6
    (tmp_path / "flat").mkdir()
    picture.save(tmp_path / "flat/1.jpg", exif=exif)
    place = find_place(tmp_path / "flat", classes=["a"])
    assert [Store(place, displayed=shown).size(0) for shown in (False, True)] == [(20, 30), (30, 20)]


def test_orders() -> None:
    names = ["a", "b", "c", "d"]
    scores = {0: ImageScores(0.5, 2.0, 0.9), 1: ImageScores(certainty=0.1), 3: ImageScores(0.2, 3.0, 0.5)}
    assert sort_images(names, scores, "listed") == [0, 1, 2, 3]
    assert sort_images(names, scores, "least_epg") == [3, 0, 1, 2]
    assert sort_images(names, scores, "most_outside") == [3, 0, 1, 2]
    assert sort_images(names, scores, "least_certain") == [1, 3, 0, 2]
    drawn = {tuple(sort_images(names, {}, "random", seed=seed)) for seed in range(20)}
    assert len(drawn) > 8
    assert sort_images(names, {}, "random", seed=3) == sort_images(names, scores, "random", seed=3)
