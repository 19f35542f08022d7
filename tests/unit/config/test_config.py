"""Configs: every shipped one loads, mistakes are found early and named, the resolved config reads back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from guidance.assembly import build_classifier, build_objective, build_optimizer, learning_rate_factor, parameter_groups
from guidance.assembly.objectives import build_guidance
from guidance.attribution import ATTRIBUTIONS
from guidance.config import check_processes, dump_config, free_on_resume, load_config, parse_config
from guidance.config.fields import Fraction, Section
from guidance.data import Source
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models.layers.noise import DropPath
from guidance.objectives import Objective

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))
DEMO = {"data": {"name": "demo"}}
VOC = {"data": {"name": "voc", "root": "x"}}
SOURCE = Source("x", "train", tuple("abc"), (), True)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_is_built(path: Path) -> None:
    config = load_config(path)
    classes = tuple("abc")
    config = config.model_copy(update={"model": config.model.model_copy(update={"weights": "none"})})
    model = build_classifier(config, 3, pretrained=True)
    source = Source("x", "train", classes, (), True)
    if config.objective.class_weights == "balanced":
        config = load_config(path, ["objective.class_weights=none"])
    objective = build_objective(config, model, source)
    assert isinstance(objective, Objective)
    terms = {term.name for term in objective.terms}
    assert ("localization" in terms) == (config.objective.localization.weight > 0)
    assert ("auxiliary" in terms) == (config.objective.mode == "aim")
    optimizer, _ = build_optimizer(config, parameter_groups(config, model), 10)
    updated = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(updated) == sorted(id(p) for p in objective.parameters())
    assert config.evaluated_attribution.depth in model.depths
    check_processes(config, 1)


def test_shipped_names() -> None:
    names = {path.stem for path in CONFIGS}
    for loss in ("energy", "l1", "ppce", "rrr", "energy_star"):
        for depth in ("input", "final"):
            assert {f"voc_resnet50_{loss}_{depth}", f"voc_resnet50_gradcam_{loss}_{depth}"} <= names
    assert {"demo", "waterbirds100_resnet18_energy", "voc_small_resnet18_energy"} <= names


def test_aim_configs_hold_the_published_values() -> None:
    """Tables 4 and 5 of the paper, and the ablations that it makes."""
    folder = CONFIGS[0].parent
    for path in folder.glob("*_aim_*.yaml"):
        if "small" in path.stem:
            continue
        config = load_config(path)
        assert (config.trainer.batch_size, config.trainer.epochs, config.schedule.name) == (512, 200, "cosine")
        optimizer, data = config.optimizer, config.data
        assert (optimizer.name, optimizer.lr, optimizer.weight_decay) == ("adamw", 0.01, 0.001)
        assert optimizer.backbone_lr == (7e-6 if config.model.name == "convnext_tiny" else 1e-3)
        assert (data.augmentation, data.randaugment_ops, data.randaugment_magnitude) == ("randaugment", 3, 9)
        assert (config.objective.label_smoothing, config.aim.dropout, config.aim.area_weight) == (0.05, 0.3, 6.0)
        assert config.model.drop_path == (0.3 if config.model.name == "convnext_tiny" else None)
        assert config.aim.threshold is None or (config.aim.threshold, config.aim.anneal_epochs) == (0.25, 100)
    changed = {
        "one_estimator": lambda c: c.aim.estimators == "one", "edges": lambda c: c.aim.initialization == "edges",
        "no_auxiliary": lambda c: not c.aim.auxiliary, "no_annealing": lambda c: c.aim.threshold is None,
        "shifted": lambda c: c.evaluation.crop == "shifted",
        "bottom_up_123": lambda c: (c.aim.masking, c.aim.stop_stage) == ("bottom_up", 1),
        "bottom_up_23": lambda c: (c.aim.masking, c.aim.stop_stage) == ("bottom_up", 2),
        "bottom_up_3": lambda c: (c.aim.masking, c.aim.stop_stage) == ("bottom_up", 3),
    }  # fmt: skip
    for name, holds in changed.items():
        assert holds(load_config(folder / f"waterbirds95_aim_{name}.yaml")), name


def test_defaults_are_checked_like_settings() -> None:
    class Wrong(Section):
        share: Fraction = 1.5

    with pytest.raises(ValueError, match=r"share\n.*less than or equal to 1"):
        Wrong()


def test_an_early_stop_without_numbers_stops_what_is_below_zero_after_two_epochs() -> None:
    stop = parse_config(DEMO | {"trainer": {"early_stop": {}}}).trainer.early_stop
    assert stop is not None
    assert (stop.metric, stop.minimum, stop.epochs) == ("f1", 0.0, 2)


def test_two_learning_rates() -> None:
    """The backbone is what pretrained weights fill; the rest learns at `lr`."""
    text = DEMO | {"model": {"name": "resnet18"}, "optimizer": {"lr": 0.5, "backbone_lr": 0.25}}
    for change, rest in (
        ({}, {"fc.weight", "fc.bias"}),
        (
            {
                "objective": {"mode": "aim", "classification": "cross_entropy"},
                "aim": {"masking": "bottom_up", "stop_stage": 4},
            },
            None,
        ),
    ):
        config = parse_config(text | change)
        model = build_classifier(config, 3, pretrained=False)
        first, backbone = parameter_groups(config, model)
        names = {id(p): name for name, p in model.net.named_parameters()}
        found = {names[id(p)] for p in first["params"]}
        if rest is None:
            head = {"backbone.fc.weight", "backbone.fc.bias"} & set(names.values())
            rest = {name for name in names.values() if not name.startswith("backbone.")} | head
        assert found == rest
        assert {names[id(p)] for p in backbone["params"]} == set(names.values()) - rest
        optimizer, _ = build_optimizer(config, [first, backbone], 3)
        assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25]
    config = parse_config(DEMO)
    assert len(parameter_groups(config, build_classifier(config, 3, pretrained=False))) == 1


def test_every_aim_setting_arrives() -> None:
    """Each key away from its default, from the config to the net and the objective."""
    config = parse_config({
        "seed": 5, "data": {"name": "demo"}, "model": {"name": "resnet18"}, "trainer": {"epochs": 20},
        "objective": {"mode": "aim", "classification": "cross_entropy", "label_smoothing": 0.1, "reduction": "mean",
                      "class_weights": [1, 2, 3], "weighting": "class",
                      "localization": {"loss": "rrr", "weight": 0.3},
                      "attribution": {"method": "gradcam", "depth": "final"}},
        "aim": {"stop_stage": 3, "estimators": "one", "auxiliary": False, "width": 24, "mask_width": 5, "dropout": 0.1,
                "temperature": 2.0, "noise_until": 0.5, "threshold": 0.4, "anneal_start": 3, "anneal_epochs": 7,
                "area_weight": 2.5, "area_ratio": "batch", "mask_weight": 0.2},
    })  # fmt: skip
    model = build_classifier(config, 3, pretrained=False)
    made = build_objective(config, model, Source("x", "train", tuple("abc"), (), True))
    assert isinstance(made, Objective)
    masking = made.behaviour.settings
    assert (masking.threshold, masking.anneal_start, masking.anneal_epochs, masking.noise_epochs) == (0.4, 3, 7, 10)
    assert (masking.area_weight, masking.area_ratio, masking.mask_weight, masking.seed) == (2.5, "batch", 0.2, 5)
    terms = {term.name: term for term in made.terms}
    assert list(terms) == ["classification", "auxiliary", "active", "area", "mask_localization", "localization"]
    shares = [(terms[name].weight, terms[name].items, terms[name].reduction) for name in list(terms)[3:]]
    assert shares == [(2.5, "batch", "mean"), (0.2, "regions", "mean"), (0.3, "regions", "mean")]
    classification = terms["classification"].losses.settings
    assert (classification.label_smoothing, classification.weighting) == (0.1, "class")
    assert classification.weights.tolist() == [1, 2, 3]
    localization = build_guidance(config)
    assert localization.loss is LOCALIZATION_LOSSES["rrr"].function
    assert (localization.attribution, localization.depth) == (ATTRIBUTIONS["gradcam"], "final")
    net = made.model.net
    assert list(made.model.masked) == ["stage3", "stage4"]
    assert (list(net.masks), list(net.heads)) == (["stage4"], ["final"])
    assert net.heads["final"].dropout.p == 0.1
    assert net.heads["final"].linear.in_features == 24
    estimator = net.masks["stage4"]
    assert (estimator.temperature, estimator.stem.out_channels) == (2.0, 5)
    half = parse_config(DEMO | {"objective": {"mode": "aim", "classification": "cross_entropy"}})
    made = build_objective(half, build_classifier(half, 3, pretrained=False), SOURCE)
    assert made.behaviour.settings.anneal_epochs == 25
    torch.manual_seed(0)
    plain = build_classifier(half, 3, pretrained=False)
    torch.manual_seed(0)
    edges = build_classifier(
        parse_config(half.model_dump() | {"aim": {"initialization": "edges"}}), 3, pretrained=False
    )
    first, second = (m.net.masks["stage4"].stem.weight.detach() for m in (plain, edges))
    assert float((second / first)[..., 1, 1].mean()) < 0.2 < 1 < float((second / first)[..., 0, 0].mean())


def test_bottom_up_drops_paths_by_sample() -> None:
    config = parse_config(DEMO | {
        "model": {"name": "convnext_tiny", "drop_path": 0.3},
        "objective": {"mode": "aim", "classification": "cross_entropy"}, "aim": {"masking": "bottom_up"},
    })  # fmt: skip
    rates = [m.p for m in build_classifier(config, 3, pretrained=False).modules() if isinstance(m, DropPath)]
    assert len(rates) == 18
    assert max(rates) == pytest.approx(0.3)


def test_aim_settings_that_do_not_fit() -> None:
    aim = {"objective": {"mode": "aim", "classification": "cross_entropy"}}
    for change, message in (
        ({"aim": {"stop_stage": 2}, "objective": {}}, None),
        ({"aim": {"stop_stage": 3}, "objective": {}}, "aim: these settings need objective.mode: aim"),
        ({"aim": {"stop_stage": 0}}, r"aim.stop_stage: resnet50 has no stage 0 that can be masked; it has 1, 2, 3, 4"),
        ({"aim": {"stop_stage": 4}, "model": {"name": "convnext_tiny"}}, r"no stage 4 .* it has 0, 1, 2, 3"),
        ({"aim": {"threshold": 0}}, r"aim.threshold: .*greater than 0"),
        ({"aim": {"threshold": 1.5}}, r"aim.threshold: .*less than or equal to 1"),
        ({"aim": {"masking": "sideways"}}, r"aim.masking: .*'top_down' or 'bottom_up'"),
        ({"aim": {"stop_stag": 1}}, r"Did you mean 'stop_stage'"),
        ({"model": {"name": "bcos_resnet50"}}, r"aim cannot mask the stages of bcos_resnet50; it can those of resnet18"),
        ({"objective": {"mode": "aim"}}, r"objective.classification: AIM is trained with cross_entropy"),
        ({"aim": {"anneal_epochs": 50}}, r"the threshold would reach 0.25 in epoch 51 of 50; shorten them"),
        ({"aim": {"anneal_start": 60}}, r"would reach 0.25 in epoch 61 of 50"),
        ({"aim": {"anneal_epochs": 5}, "trainer": {"epochs": 1}}, None),  # a single epoch is a trial
        ({"aim": {"masking": "bottom_up", "estimators": "one"}}, r"aim.estimators: it belongs to aim.masking: top_down"),
        ({"aim": {"masking": "bottom_up", "dropout": 0.1}}, r"aim.dropout: it belongs to aim.masking: top_down"),
        ({"aim": {"area_ratio": "batch"}, "trainer": {"accumulate": 2}}, r"area_ratio: batch needs trainer.accumulate: 1"),
        (
            {"objective": {"mode": "aim", "classification": "cross_entropy", "attribution": {"depth": "mid3"}}},
            r"objective.attribution.depth: resnet50\+AIM\[2\] has no depth 'mid3'; it has input, mid1, mid2, final",
        ),
        ({"objective": {"label_smoothing": 0.1}}, r"label_smoothing: it belongs to .*cross_entropy"),
        (VOC | {"aim": {"mask_weight": 1}, "objective": {"mode": "aim"}}, r"classes_per_image: all"),
        ({"data": {"name": "demo", "annotated_fraction": 0}, "aim": {"mask_weight": 1}}, r"guidance needs annotated images"),
        ({"trainer": {"early_stop": {"metric": "sparsity"}}}, "more sparsity is not better, so there is no minimum"),
    ):  # fmt: skip
        if message is None:
            parse_config(DEMO | aim | change)
            continue
        with pytest.raises(ValueError, match=message):
            parse_config(DEMO | aim | change)


def test_resolved_config_reads_back(tmp_path: Path) -> None:
    config = load_config(CONFIGS[0], ["optimizer.lr=3e-5", "seed=7"])
    assert (config.optimizer.lr, config.seed) == (3e-5, 7)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml") == config
    assert ("aim" in config.model_dump()) == (config.objective.mode == "aim")
    cross_entropy = {"mode": "aim", "classification": "cross_entropy"}
    aim = parse_config(DEMO | {"objective": cross_entropy, "aim": {"threshold": 0.5}})
    assert aim.model_dump()["aim"]["threshold"] == 0.5
    assert "aim" not in parse_config(DEMO).model_dump(mode="json")


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
        ({"objective": {"attribution": {"method": "bcos"}}}, r"method: resnet50 cannot give 'bcos', .* it gives ixg"),
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
    with pytest.raises(ValueError, match="seg_epg needs segmentations, which imagewoof does not have"):
        parse_config({"data": {"name": "imagewoof", "root": "x"}, "pareto": {"metrics": ["f1", "seg_epg"]}})
    with pytest.raises(ValueError, match="a metric is named twice in f1, f1"):
        parse_config(VOC | {"pareto": {"metrics": ["f1", "f1"]}})
    with pytest.raises(ValueError, match="worst_group_images says nothing about how good a net is"):
        parse_config(DEMO | {"pareto": {"metrics": ["worst_group_images"]}})
    assert parse_config(VOC | {"pareto": {"metrics": ["f1", "zero_maps"]}}).pareto.metrics == ["f1", "zero_maps"]
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


# --- what a resumed run may change, and what evaluation takes over from guidance --------------------------------------


def test_each_setting_says_whether_a_resumed_run_may_change_it() -> None:
    """All others may not; three depend on the run."""
    always = {
        "data.root", "data.on_error", "data.check", "data.num_workers", "evaluation.batch_size", "log", "trainer.device",
        "trainer.checkpoint_every", "trainer.early_stop",
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


def test_a_depth_that_nothing_uses_does_no_harm() -> None:
    left = {"mode": "aim", "classification": "cross_entropy", "attribution": {"method": "ixg", "depth": "mid3"}}
    aim = DEMO | {"model": {"name": "resnet18"}, "aim": {"stop_stage": 2}}
    evaluated = {"evaluation": {"attribution": {"method": "gradcam", "depth": "final"}}}
    config = parse_config(aim | {"objective": left} | evaluated)
    made = build_objective(config, build_classifier(config, 3, pretrained=False), SOURCE)
    assert "localization" not in {term.name for term in made.terms}
    assert build_guidance(config).depth == "mid3"
    with pytest.raises(ValueError, match=r"objective.attribution.depth: resnet18\+AIM\[2\] has no depth 'mid3'"):
        parse_config(aim | {"objective": left | {"localization": {"weight": 1}}} | evaluated)
    with pytest.raises(ValueError, match=r"objective.attribution.depth: resnet18\+AIM\[2\] has no depth 'mid3'"):
        parse_config(aim | {"objective": left, "evaluation": {"attribution": {"method": "gradcam"}}})


# --- YAML that no one writes, and seeds that no generator takes -------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "[" * 2000,
        "{a: " * 2000,
        "lr: !!timestamp x",
        "lr: " + "1" * 5000,
        "a: !!binary x",
        "a: !!float x",
        "\0",
        "? [1]\n: 2",
    ],
    ids=["lists", "maps", "timestamp", "digits", "binary", "float", "null", "key"],
)
def test_what_yaml_cannot_build_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"bad\.yaml is not valid YAML: ") as raised:
        load_config(tmp_path / "bad.yaml")
    assert len(str(raised.value)) < 1000
    if text.startswith("lr"):  # what Python says of these names neither the place nor the value
        assert "a value does not fit its tag (such as !!timestamp), or is out of every range" in str(raised.value)
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ValueError, match=r"the config .*folder\.yaml is not a file$"):
        load_config(tmp_path / "folder.yaml")
    (tmp_path / "demo.yaml").write_text("data: {name: demo}\n")
    with pytest.raises(ValueError, match=r"--set .*: the value is not valid YAML: "):
        load_config(tmp_path / "demo.yaml", [f"optimizer.lr={text}"])


@pytest.mark.parametrize("seed", [-1, 2**63, 10**22, "x", 1.5])
def test_seeds_are_what_generators_take(seed: object) -> None:
    for change in (DEMO | {"seed": seed}, {"data": DEMO["data"] | {"seed": seed}}, {
        "data": {"name": "coco", "root": "x", "split_seed": seed}
    }):  # fmt: skip
        with pytest.raises(ValueError, match=r"seed: Input should be"):
            parse_config(change)
