"""Released weights: the files, where they are looked for, and what a failed download says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from guidance.models import BACKBONES, build_model, weights


def test_table_of_released_files() -> None:
    base = "https://github.com/B-cos/B-cos-v2/releases/download/v0.0.1-weights/"
    files = {
        "bcos_resnet18": "resnet_18-68b4160fff.pth", "bcos_resnet34": "resnet_34-a63425a03e.pth",
        "bcos_resnet50": "resnet_50-ead259efe4.pth", "bcos_resnet101": "resnet_101-84c3658278.pth",
        "bcos_densenet121": "densenet_121-b8daf96afb.pth", "bcos_vitc_s": "bcos_vitc_s_patch1_14-cf55c88f0c.pth",
        "bcos_simple_vit_s": "bcos_simple_vit_s_patch16_224-75e99d1f73.pth",
    }  # fmt: skip
    for name, file in files.items():
        assert BACKBONES[name].weights["bcos-v2"] == base + file
        assert weights._hash_prefix(Path(file)) == file.rsplit("-", 1)[1].split(".")[0]
    assert BACKBONES["xdnn_resnet50"].weights["xdnn"].endswith("/models/xfixup_resnet50_model_best.pth.tar")
    assert weights._hash_prefix(Path("xfixup_resnet50_model_best.pth.tar")) is None


def test_failed_download_names_the_file_and_where_to_put_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(ValueError, match=r"resnet_18-68b4160fff\.pth are not at .*no network.*put the file there"):
        build_model("bcos_resnet18", num_classes=4, weights="bcos-v2")


def test_weights_in_the_hub_folder_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    state = {f"0.{k}": v for k, v in build_model("bcos_resnet18", num_classes=1000).net.state_dict().items()}
    (tmp_path / "checkpoints").mkdir()
    torch.save(state, tmp_path / "checkpoints" / "resnet_18-68b4160fff.pth")
    net = build_model("bcos_resnet18", num_classes=4, weights="bcos-v2").net
    assert torch.equal(net.get_parameter("conv1.linear.weight").detach(), state["0.conv1.linear.weight"])
