"""Settings of a protocol: what selects where a config does not say, which crops fit, how older configs are read."""

from __future__ import annotations

from typing import Any

import pytest

from guidance.config import dump_config, free_on_resume, load_config, override_config, parse_config
from guidance.config.checks import check_metric
from tests.support.configs import DEMO, VOC

AIM = {"objective": {"mode": "aim", "classification": "cross_entropy"}, "model": {"name": "resnet18"}}
BIRDS: dict[str, Any] = {"name": "waterbirds", "root": "x"}
GUIDED = {"localization": {"weight": 0.5}, "reduction": "mean"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (DEMO, ["f1", "epg", "iou"]),
        (DEMO | {"objective": {"localization": {"weight": 0.5}}}, ["f1", "epg", "iou"]),
        (DEMO | AIM, ["accuracy"]),
        (VOC | {"objective": {"mode": "aim"}, "model": {"name": "resnet18"}}, ["f1"]),
        (DEMO | AIM | {"pareto": {"resolution": 0.01}}, ["accuracy"]),
        (DEMO | AIM | {"pareto": {"metrics": ["epg"]}}, ["epg"]),
        (DEMO | AIM | {"objective": AIM["objective"] | GUIDED}, ["f1", "epg", "iou"]),
        (DEMO | AIM | {"aim": {"mask_weight": 0.1}}, ["f1", "epg", "iou"]),
    ],
)
def test_what_learns_from_labels_alone_is_selected_by_labels_alone(
    content: dict[str, Any], expected: list[str]
) -> None:
    config = parse_config(content)
    assert config.pareto.metrics == expected
    assert override_config(config, ["pareto.resolution=0.1"]).pareto.metrics == expected


def test_what_a_stored_config_says_of_the_selection_stays() -> None:
    config = override_config(parse_config(DEMO | AIM), ["objective.mode=guided"])
    assert config.pareto.metrics == ["accuracy"]


def test_the_fixed_group_selects_where_there_is_one() -> None:
    check_metric(parse_config({"data": BIRDS}), "pareto.metrics[0]", "fixed_group_accuracy")
    for data, lacks in (({"name": "demo"}, "fixed group"), ({"name": "voc", "root": "x"}, "groups")):
        with pytest.raises(ValueError, match=f"fixed_group_accuracy needs {lacks}, which {data['name']} does not have"):
            parse_config({"data": data, "pareto": {"metrics": ["fixed_group_accuracy"]}})


def test_crops_that_do_not_fit() -> None:
    crop = {"name": "demo", "crop": "center"}
    for augmentation in ("none", "flip", "randaugment", "randaugment_only"):
        assert parse_config({"data": crop | {"augmentation": augmentation}}).data.crop == "center"
    with pytest.raises(ValueError, match="crop 'center' has no place before augmentation 'crop_flip'"):
        parse_config({"data": crop | {"augmentation": "crop_flip"}})
    with pytest.raises(ValueError, match=r"data\.crop: .*'shifted'"):
        parse_config({"data": crop | {"crop": "shifted"}})


def test_what_older_runs_say_of_the_validation_of_waterbirds() -> None:
    for stored, meant in ((True, "filtered"), (False, "official")):
        config = parse_config({"data": BIRDS | {"filter_validation": stored}})
        assert config.data.validation == meant  # type: ignore[attr-defined]
        assert "filter_validation" not in dump_config(config)
    for wrong in ({"filter_validation": True, "validation": "official"}, {"filter_validation": "yes"}):
        with pytest.raises(ValueError, match="filter_validation is now validation: official, filtered or held_out"):
            parse_config({"data": BIRDS | wrong})


def test_protocols_are_no_matter_of_how_a_run_survives(tmp_path: Any) -> None:
    """Another protocol is another run; and it is stored with the run."""
    new = {
        "data": BIRDS | {"annotated_of": "images", "crop": "center", "validation": "held_out", "split_seed": 3},
        "evaluation": {
            "iou_threshold": "fit",
            "threshold_fraction": 0.2,
            "crop": "shifted_center",
            "pixel_map": "blurred",
        },
    }
    config = parse_config(new)
    free = free_on_resume(config)
    for name in (
        "data.annotated_of",
        "data.crop",
        "data.validation",
        "evaluation.threshold_fraction",
        "evaluation.pixel_map",
    ):
        assert name not in free
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml") == config
