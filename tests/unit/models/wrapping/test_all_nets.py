"""Every classification net of torchvision, and nets of thirty families of timm, at the size for which they are made."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from guidance.models.wrapping import wrap
from tests.unit.models.wrapping.steps import check_gradients, check_maps, guided_loss, wrapped

pytestmark = pytest.mark.long
CLASSES = 3
TORCHVISION = torchvision.models.list_models(module=torchvision.models)
WITHOUT_INITIALISATION = ("googlenet", "inception_v3")  # theirs takes a minute
LARGEST = 150_000_000  # parameters that are held in float64, with their gradients, in less than 12 GiB
TIMM = (
    "resnet18", "resnetv2_50", "seresnet18", "res2net50_26w_4s", "dla34", "regnety_002", "densenet121", "vgg11",
    "hrnet_w18_small", "efficientnet_b0", "mobilenetv3_small_050", "mobilenetv4_conv_small_035", "ghostnet_050",
    "hardcorenas_a", "repvgg_a0", "convnext_atto", "convnextv2_atto", "poolformer_s12", "mixer_s32_224", "resmlp_12_224",
    "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224",
    "coatnet_nano_rw_224", "mobilevit_xxs", "visformer_tiny", "edgenext_xx_small",
    "xcit_nano_12_p16_224", "cait_xxs24_224", "fastvit_t8",
)  # fmt: skip


def check(net: nn.Module, images: torch.Tensor) -> None:
    """Logits as of the bare net, depths, maps, and finite gradients of one guided step at the input and at the last depth."""
    net.eval()
    with torch.no_grad():
        expected = net(images)
    model = wrap(net, example=images).eval()
    # Other orders of the same sums; in float64 they are equal, see below.
    torch.testing.assert_close(model(images).logits, expected, rtol=1e-5, atol=1e-4)
    assert model.depths[0] == "input"
    assert model.depths[-1] == "final"
    check_maps(model, images)
    for depth in ("input", "final"):
        model.zero_grad()
        guided_loss(model, images, depth).backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients
        assert all(torch.isfinite(g).all() for g in gradients)


def torchvision_net(name: str, **options: object) -> nn.Module:
    if name in WITHOUT_INITIALISATION:
        options["init_weights"] = False
    net: nn.Module = torchvision.models.get_model(name, num_classes=CLASSES, **options)
    if isinstance(net, torchvision.models.VisionTransformer):
        nn.init.normal_(net.heads.head.weight)  # zero in fresh ones, of which no map can be scaled
    return net


def shallower(net: nn.Module) -> nn.Module:
    """Without each block of a sequence that has weights of the same shapes as the one before."""
    for sequence in [module for module in net.modules() if isinstance(module, nn.Sequential)]:
        before: list[torch.Size] = []
        for name, block in list(sequence.named_children()):
            shapes = [p.shape for p in block.parameters()]
            if shapes and shapes == before:
                delattr(sequence, name)
            before = shapes
    return net


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name: str) -> None:
    torch.manual_seed(0)
    check(torchvision_net(name), torch.rand(2, 3, 224, 224))


@pytest.mark.parametrize("name", TORCHVISION)
def test_gradients_of_torchvision(name: str) -> None:
    """A guided step at the input against central differences, on small images where the net takes them; in float64."""
    torch.manual_seed(0)
    side = {"vit": 112, "maxvit": 224, "inception": 299}.get(name.split("_")[0], 96)
    if name.endswith("_32"):
        side = 96  # in whole patches
    net = torchvision_net(name, **({"image_size": side} if name.startswith("vit") else {}))
    if sum(p.numel() for p in net.parameters()) > LARGEST:
        net = shallower(net)
    net, images = net.double(), torch.rand(2, 3, side, side, dtype=torch.float64)
    check_gradients(wrapped(net, images), images, "input")


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is an extra: pip install 'guidance[timm]'")
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=CLASSES)
    last = net.get_classifier()
    if isinstance(last, nn.Linear) and not last.weight.any():
        nn.init.normal_(last.weight)  # zero in some fresh nets, of which no map can be scaled
    check(net, torch.rand(2, *net.default_cfg["input_size"]))
