"""Configs: every shipped one loads, mistakes are found early and named, the resolved config reads back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from guidance.build import build_objective, build_optimizer, learning_rate_factor
from guidance.config import check_processes, dump_config, load_config, parse_config
from guidance.data import Source
from guidance.models import build_model
from guidance.objectives import GuidedClassification

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
DEMO = {"data": {"name": "demo"}}
VOC = {"data": {"name": "voc", "root": "x"}}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_is_built(path: Path) -> None:
    config = load_config(path)
    classes = tuple("abc")
    model = build_model(config.model.name, num_classes=3, batchnorm=config.model.batchnorm)
    source = Source("x", "train", classes, (), True)
    if config.objective.class_weights == "balanced":
        config = load_config(path, ["objective.class_weights=none"])
    objective = build_objective(config, model, source)
    assert isinstance(objective, GuidedClassification)
    assert (objective.localization is None) == (config.objective.localization.weight == 0)
    build_optimizer(config, list(objective.parameters()), 10)
    check_processes(config, 1)


def test_shipped_names() -> None:
    names = {path.stem for path in CONFIGS}
    for loss in ("energy", "l1", "ppce", "rrr", "energy_star"):
        for depth in ("input", "final"):
            assert {f"voc_resnet50_{loss}_{depth}", f"voc_resnet50_gradcam_{loss}_{depth}"} <= names
    assert {"demo", "waterbirds100_resnet18_energy", "voc_sample_resnet18_energy"} <= names


def test_resolved_config_reads_back(tmp_path: Path) -> None:
    config = load_config(CONFIGS[0], ["optimizer.lr=3e-5", "seed=7"])
    assert (config.optimizer.lr, config.seed) == (3e-5, 7)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimiser": {}}, r"optimiser: unknown key; known here: .*optimizer.* Did you mean 'optimizer'\?"),
        ({"optimizer": {"lrr": 1}}, r"optimizer.lrr: unknown key.* Did you mean 'lr'"),
        ({"data": {"name": "demo", "image_sise": 3}}, r"data.image_sise: unknown key.* Did you mean 'image_size'"),
        ({"optimizer": {"lr": "fast"}}, r"optimizer.lr: Input should be a valid number.*'fast'"),
        ({"optimizer": {"lr": -1}}, r"optimizer.lr: Input should be greater than 0 \(given: -1\)"),
        ({"optimizer": {"lr": float("nan")}}, r"optimizer.lr"),
        ({"optimizer": {"name": "lion"}}, r"optimizer.name: .*'adam', 'adamw' or 'sgd' \(given: 'lion'\)"),
        ({"data": {"name": "imagenet"}}, r"data: .*'imagenet'.*'voc'"),
        ({"model": {"name": "resnet51"}}, r"unknown model.name 'resnet51'.*Did you mean 'resnet50'"),
        ({"objective": {"localization": {"loss": "enrgy"}}}, r"unknown objective.localization.loss 'enrgy'.*'energy'"),
        ({"objective": {"attribution": {"method": "lime"}}}, r"unknown objective.attribution.method 'lime'"),
        ({"objective": {"attribution": {"method": "bcos"}}}, r"attribution.method: resnet50 cannot give 'bcos'; it gives ixg"),
        ({"objective": {"attribution": {"depth": "mid7"}}}, r"attribution.depth: resnet50 has no depth 'mid7'; it has input"),
        ({"evaluation": {"attribution": {"depth": "last"}}}, r"evaluation.attribution.depth: .*'last'"),
        ({"pareto": {"metrics": ["epgs"]}}, r"unknown metric \(pareto.metrics\[0\]\) 'epgs'.*Did you mean 'epg'"),
        ({"trainer": {"early_stop": {"metric": "epgg"}}}, r"trainer.early_stop.metric"),
        ({"trainer": {"batch_size": 0}}, r"trainer.batch_size: .*greater than or equal to 1"),
        ({"data": {"name": "demo", "image_size": 16}}, r"data.image_size: 16 is smaller than one cell of resnet50 \(32\)"),
        (
            {"data": {"name": "demo", "annotated_fraction": 0}, "objective": {"localization": {"weight": 1}}},
            r"guidance needs annotated images",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_config(DEMO | change)


def test_fields_that_contradict_the_data_set() -> None:
    with pytest.raises(ValueError, match="images of voc have several labels"):
        parse_config(VOC | {"objective": {"classification": "cross_entropy"}})
    with pytest.raises(ValueError, match="worst_group_accuracy needs groups, which voc does not have"):
        parse_config(VOC | {"pareto": {"metrics": ["worst_group_accuracy"]}})
    with pytest.raises(ValueError, match="adjusted_accuracy needs groups, which voc does not have"):
        parse_config(VOC | {"trainer": {"early_stop": {"metric": "adjusted_accuracy"}}})
    with pytest.raises(ValueError, match="seg_epg needs segmentations, which waterbirds does not have"):
        parse_config({"data": {"name": "waterbirds", "root": "x"}, "pareto": {"metrics": ["f1", "seg_epg"]}})
    with pytest.raises(ValueError, match="a metric is named twice in f1, f1"):
        parse_config(VOC | {"pareto": {"metrics": ["f1", "f1"]}})
    with pytest.raises(ValueError, match="more zero_maps is not better"):
        parse_config(VOC | {"pareto": {"metrics": ["zero_maps"]}})
    with pytest.raises(ValueError, match=r"data.root: Field required"):
        parse_config({"data": {"name": "voc"}})
    with pytest.raises(ValueError, match=r"data"):
        parse_config({})


def test_several_mistakes_are_all_reported() -> None:
    with pytest.raises(ValueError, match=r"(?s)optimizer.lrr.*trainer.epocs"):
        parse_config(DEMO | {"optimizer": {"lrr": 1}, "trainer": {"epocs": 1}})


def test_processes_must_divide_the_batch() -> None:
    config = parse_config(DEMO | {"trainer": {"batch_size": 50, "accumulate": 2}})
    check_processes(config, 5)
    with pytest.raises(ValueError, match=r"50 images cannot be shared equally by 8 process\(es\).* use 48 or 64"):
        check_processes(config, 8)


def test_files_and_overrides(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no config file .*demoo.yaml. Did you mean .*demo.yaml"):
        load_config(CONFIGS[0].parent / "demoo.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ValueError, match="must hold sections"):
        load_config(tmp_path / "list.yaml")
    (tmp_path / "bad.yaml").write_text("data: [\n")
    with pytest.raises(ValueError, match="not valid YAML"):
        load_config(tmp_path / "bad.yaml")
    (tmp_path / "demo.yaml").write_text("data: {name: demo}\n")
    config = load_config(tmp_path / "demo.yaml", ["trainer.early_stop.minimum=0.5", "pareto.metrics=[accuracy, epg]"])
    assert config.trainer.early_stop is not None
    assert config.trainer.early_stop.minimum == 0.5
    assert config.pareto.metrics == ["accuracy", "epg"]
    with pytest.raises(ValueError, match=r"--set takes a.b=value, not 'lr'"):
        load_config(tmp_path / "demo.yaml", ["lr"])
    for version in ("95", 95):
        text = f"data: {{name: waterbirds, root: x, version: {version!r}}}"
        (tmp_path / "w.yaml").write_text(text)
        assert load_config(tmp_path / "w.yaml").data.version == "95"  # type: ignore[union-attr]


def test_learning_rate_factor() -> None:
    def rates(name: str, warmup: int = 0) -> list[float]:
        return [
            learning_rate_factor(s, name=name, warmup=warmup, total=10, period=4, gamma=0.1) for s in range(11)
        ]  # fmt: skip

    assert rates("constant") == [1.0] * 11
    assert rates("constant", 2)[:3] == pytest.approx([0.01, 0.505, 1.0])
    assert rates("step") == pytest.approx([1] * 4 + [0.1] * 4 + [0.01] * 3)
    cosine = rates("cosine")
    assert (cosine[0], cosine[5], cosine[10]) == pytest.approx((1.0, 0.5, 0.0))
    assert sorted(cosine, reverse=True) == cosine


def test_optimizers_get_their_settings() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    for name, kind in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)):
        config = parse_config(DEMO | {"optimizer": {"name": name, "lr": 0.5, "weight_decay": 0.25, "momentum": 0.75}})
        optimizer, _ = build_optimizer(config, parameters, 3)
        assert type(optimizer) is kind
        group = optimizer.param_groups[0]
        assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
        assert group.get("momentum", 0.75) == 0.75
