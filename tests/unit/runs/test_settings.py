"""The config of another run is refused."""

from __future__ import annotations

import pytest

from guidance.runs.settings import check_config


def test_config_of_another_run_is_refused_with_both_values() -> None:
    saved = {"optimizer": {"lr": 0.1, "betas": (0.9, 0.999)}, "trainer": {"epochs": 5}, "old": True, "seed": 0}
    now = {"optimizer": {"lr": 0.2, "betas": [0.9, 0.999]}, "trainer": {"epochs": 9}, "new": None, "seed": 0}
    with pytest.raises(ValueError, match="another config") as error:
        check_config(saved, now)
    lines = str(error.value).splitlines()[1:-1]
    assert lines == [
        "  new: (absent) in the checkpoint, None now",
        "  old: True in the checkpoint, (absent) now",
        "  optimizer.lr: 0.1 in the checkpoint, 0.2 now",
        "  trainer.epochs: 5 in the checkpoint, 9 now",
    ]
    check_config(saved, now, ignore=("new", "old", "optimizer.lr", "trainer"))
    with pytest.raises(ValueError, match=r"optimizer\.lr"):
        check_config(saved, now, ignore=("new", "old", "optimizer.l", "train", "trainer.epochs"))
    check_config(saved, saved)
