"""Defaults, what a resumed run may change, and what evaluation takes over from guidance."""

from __future__ import annotations

from guidance.config import free_on_resume, parse_config
from tests.support.configs import DEMO, VOC


def test_an_early_stop_without_numbers_stops_what_is_below_zero_after_two_epochs() -> None:
    stop = parse_config(DEMO | {"trainer": {"early_stop": {}}}).trainer.early_stop
    assert stop is not None
    assert (stop.metric, stop.minimum, stop.epochs) == ("f1", 0.0, 2)


def test_each_setting_says_whether_a_resumed_run_may_change_it() -> None:
    """All others may not; three depend on the run."""
    always = {
        "data.root", "data.on_error", "data.check", "data.num_workers", "evaluation.batch_size", "log", "trainer.device",
        "trainer.checkpoint_activations", "trainer.checkpoint_every", "trainer.compile", "trainer.early_stop",
        "trainer.timeout_minutes", "imports",
    }  # fmt: skip
    cache = {"data.cache", "data.cache_size"}
    assert set(free_on_resume(parse_config(DEMO))) == always | cache | {"trainer.epochs"}
    assert set(free_on_resume(parse_config(VOC))) == always | cache | {"trainer.epochs"}
    cosine = parse_config(DEMO | {"schedule": {"name": "cosine"}})
    assert set(free_on_resume(cosine)) == always | cache
    crops = parse_config({"data": DEMO["data"] | {"augmentation": "crop_flip"}})
    assert set(free_on_resume(crops)) == always | {"trainer.epochs"}
    aim = parse_config(DEMO | {"objective": {"mode": "aim", "classification": "cross_entropy"}})
    assert set(free_on_resume(aim)) == always | cache


def test_evaluation_keeps_what_it_does_not_change() -> None:
    guided = {"attribution": {"method": "intgrad", "depth": "mid3", "steps": 7}, "localization": {"weight": 1}}
    for change, expected in (
        ({}, ("intgrad", "mid3", 7)),
        ({"attribution": None}, ("intgrad", "mid3", 7)),
        ({"attribution": {"method": "gradcam"}}, ("gradcam", "mid3", 7)),
        ({"attribution": {"depth": "final"}}, ("intgrad", "final", 7)),
        ({"attribution": {"method": "ixg", "depth": "input", "steps": 3}}, ("ixg", "input", 3)),
    ):
        config = parse_config(DEMO | {"objective": guided, "evaluation": change})
        found = config.evaluated_attribution
        assert (found.method, found.depth, found.steps) == expected
        assert parse_config(config.model_dump(mode="json")).evaluated_attribution == found
