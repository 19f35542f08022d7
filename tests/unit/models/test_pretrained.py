"""Nets that were trained elsewhere: their classes, their pre-processing, and data in their terms. Weights are random files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet18_Weights, densenet121, resnet18
from torchvision.transforms.v2.functional import pil_to_tensor

from guidance.assembly.pretrained import in_classes
from guidance.data.sets.imagenet import HARD, WOOF
from guidance.data.source import Record, Source
from guidance.inference import evaluate_run, load_model
from guidance.models import build_model
from guidance.models.sources.imagenet import imagenet_classes, imagenet_indices, wordnet_ids
from guidance.models.weights import load_weights
from launch.evaluate import main

FAST = ["data.num_workers=0", "data.image_size=32"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights of ResNet-18, under the names of the official ones."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(resnet18().state_dict(), file)
    return file


def write_images(root: Path, *classes: str, size: tuple[int, int] = (40, 50)) -> Path:
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(2):
            pixels = np.random.default_rng([number, i]).integers(0, 255, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def test_the_classes_of_imagenet_are_in_the_order_of_their_wordnet_ids() -> None:
    names, ids = imagenet_classes(), wordnet_ids()
    assert len(names) == len(ids) == len(set(names)) == len(set(ids)) == 1000
    assert list(ids) == sorted(ids)
    assert {wordnet: names[imagenet_indices()[wordnet]] for wordnet in WOOF} == dict(WOOF)
    other = {
        "bathing cap": "swimming cap",
        "dogsled": "dog sled",
        "puck": "hockey puck",
        "ballplayer": "baseball player",
    }
    found = [names[ids.index(wordnet)] for wordnet in HARD]
    assert [other.get(name, name) for name in found] == list(HARD.values())
    assert imagenet_indices()["tench"] == imagenet_indices()["n01440764"] == 0


def test_an_image_is_read_predicted_and_explained_as_by_the_net_itself(weights: Path, tmp_path: Path) -> None:
    run = load_model("resnet18", weights=weights)
    assert run.classes == imagenet_classes()
    path = write_images(tmp_path, "a", size=(260, 300)) / "a/0.png"
    expected = ResNet18_Weights.IMAGENET1K_V1.transforms()(pil_to_tensor(Image.open(path)))[None]
    # Of the two ways in which torchvision resizes, one rounds the other way here and there, by one grey level.
    torch.testing.assert_close(run.read(path), expected, rtol=0, atol=1.001 / 255 / 0.224)
    expected = run.read(path)
    net = resnet18().eval()
    net.load_state_dict(torch.load(weights, weights_only=True))
    logits = run.predict(path)
    torch.testing.assert_close(torch.tensor(list(logits.values())), net(expected)[0], rtol=1e-3, atol=1e-3)
    leaf = expected.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(leaf)[0, 207], leaf)
    found = run.explain(path, "golden retriever")
    torch.testing.assert_close(found, (leaf * gradient)[0].sum(0).detach(), rtol=1e-2, atol=1e-5)


def test_a_labelled_folder_by_the_command(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders have WordNet ids or names; the decision is that of 1000 classes, and only classes with images are listed."""
    monkeypatch.chdir(tmp_path)
    run = load_model("resnet18", weights=weights, overrides=FAST)
    folder = write_images(tmp_path / "images", "n02099601", "Tabby", "ice_Bear")
    decided = max((logits := run.predict(folder / "Tabby/0.png")), key=logits.__getitem__)
    (folder / "Tabby/0.png").rename(folder / "n02099601/2.png")
    (folder / "n02099601").rename(folder / decided)  # one of its three images is now right, at least
    command = ["--model", "resnet18", "--weights", str(weights), "--data", str(folder), "--set", *FAST]
    assert main([*command, "evaluation.attribution.method=gradcam", "evaluation.attribution.depth=final"]) == 0
    (file,) = (tmp_path / "runs/resnet18_random/results").glob("random.test.*.json")
    content = json.loads(file.read_text())
    assert content["metrics"]["accuracy"] >= 1 / 6
    assert content["metrics"][f"accuracy_class/{decided}"] >= 1 / 3
    listed = {n.removeprefix("accuracy_class/") for n in content["metrics"] if n.startswith("accuracy_class/")}
    assert listed == {decided, "tabby", "ice bear"}
    assert content["settings"]["config"]["evaluation.crop"] == "center"
    assert content["settings"]["config"]["objective.classification"] == "cross_entropy"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "resnet18"], "--model needs --data"),
        (["--checkpoint", "x", "--weights", "y"], "--weights and --data belong to --model"),
        (["--split", "test"], "one of the arguments --checkpoint --model is required"),
    ],
)
def test_arguments_that_do_not_fit(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


def test_other_weights_take_the_classes_of_the_data_or_those_given(tmp_path: Path) -> None:
    """And a data section of a config, with boxes and a split of its own."""
    torch.save(resnet18(num_classes=2).state_dict(), tmp_path / "two.pth")
    root = tmp_path / "set"
    for split in ("train", "val"):
        write_images(root / split, "cat", "dog")
    (root / "boxes.csv").write_text(
        "image,class,x0,y0,x1,y1\nval/cat/0.png,cat,10,10,30,30\nval/dog/1.png,dog,0,0,20,20\n"
    )
    (tmp_path / "data.yaml").write_text(f"data: {{name: custom, root: {root}}}\n")
    for data in (root, tmp_path / "data.yaml"):
        run = load_model("resnet18", weights=tmp_path / "two.pth", data=data, overrides=FAST)
        assert run.classes == ("cat", "dog")
        assert 0 <= evaluate_run(run, "val").metrics["epg"] <= 1
    assert load_model("resnet18", weights=tmp_path / "two.pth", classes=["a", "b"]).classes == ("a", "b")
    with pytest.raises(ValueError, match=r"two\.pth has 2 outputs, but there are 3 classes \(a, b, c\)"):
        load_model("resnet18", weights=tmp_path / "two.pth", classes=["a", "b", "c"])
    more = write_images(tmp_path / "more", "a", "b", "c")
    with pytest.raises(ValueError, match=r"two\.pth has 2 outputs, but the data has 3 classes"):
        load_model("resnet18", weights=tmp_path / "two.pth", data=more)
    with pytest.raises(ValueError, match=r"gone is no folder of images, and no config"):
        load_model("resnet18", weights=tmp_path / "two.pth", data=tmp_path / "gone")
    (tmp_path / "none.yaml").write_text("model: {name: resnet18}\n")
    with pytest.raises(ValueError, match=r"none\.yaml has no section `data`"):
        load_model("resnet18", weights=tmp_path / "two.pth", data=tmp_path / "none.yaml")
    with pytest.raises(ValueError, match=r"they have no 'classifier\.weight', the classifier of densenet121"):
        load_model("densenet121", weights=tmp_path / "two.pth", data=root)


def read_by_class(record: Record) -> dict[int, torch.Tensor]:
    return {k: torch.full((2, 2), bool(k)) for k in record.classes}


def test_labels_boxes_and_segmentations_are_numbered_as_the_outputs() -> None:
    record = Record(Path("x.png"), (0, 1), ((0, 0, 1, 1), (1, 1, 2, 2)), (1, 0), Path("s.png"), never_classes=(1,))
    source = Source("few", "val", ("zebra", "Tiger_Shark"), (record,), False, read_segments=read_by_class)
    found = in_classes(source, imagenet_classes())
    zebra, shark = (imagenet_classes().index(name) for name in ("zebra", "tiger shark"))
    assert found.classes == imagenet_classes()
    assert found.records[0].classes == (shark, zebra)
    assert (found.records[0].box_classes, found.records[0].never_classes) == ((shark, zebra), (shark,))
    assert found.read_segments is not None
    assert {k: bool(x.any()) for k, x in found.read_segments(found.records[0]).items()} == {zebra: False, shark: True}
    assert in_classes(source, source.classes) is source
    knitted = Source("few", "val", ("Cardigan", "cardigan", "TENCH"), (record._replace(classes=(0, 1)),), False)
    dog, wool = (imagenet_classes().index(name) for name in ("Cardigan", "cardigan"))
    assert in_classes(knitted, imagenet_classes()).records[0].classes == (dog, wool)
    assert in_classes(knitted, imagenet_classes()).records[0].box_classes == (wool, dog)
    with pytest.raises(ValueError, match="no class CARDIGAN,"):
        in_classes(Source("few", "val", ("CARDIGAN",), (), False), imagenet_classes())
    with pytest.raises(ValueError, match=r"no class Tiger_Shark, but few val has; it knows zebra, horse and so on"):
        in_classes(source, ("zebra", "horse"))
    same = Source("few", "val", ("n02391049", "zebra"), (record,), False)
    with pytest.raises(ValueError, match="n02391049, zebra of few are one class to the net; join them"):
        in_classes(same, imagenet_classes())


def test_the_released_densenet_file_is_older_than_its_layers_names(tmp_path: Path) -> None:
    """It says norm.1 for norm1, and does not count batches."""
    donor = densenet121(num_classes=3)
    state = {key: torch.rand_like(x) if x.is_floating_point() else x for key, x in donor.state_dict().items()}
    old = {}
    for key, value in state.items():
        *before, layer, last = key.split(".")
        if layer in ("norm1", "relu1", "conv1", "norm2", "relu2", "conv2"):
            layer = f"{layer[:-1]}.{layer[-1]}"
        if last != "num_batches_tracked":
            old[".".join((*before, layer, last))] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    found = build_model("densenet121", num_classes=3, weights=tmp_path / "old.pth").net.state_dict()
    assert all(torch.equal(found[key], value) for key, value in state.items())
    with pytest.raises(ValueError, match=r"Keys missing: .*running_mean"):  # what counts must be there
        load_weights(donor, {k: v for k, v in state.items() if "running_mean" not in k}, head="classifier", source="x")
