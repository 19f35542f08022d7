"""`guidance.survey`: a folder of images without annotation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from guidance import Preprocessing, survey, wrap


class Corner(nn.Module):
    """Class 1 where the upper left corner is brighter than the lower right one, else class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Identity()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        first, last = x[:, 0, :4, :4].mean((1, 2)), x[:, 0, 12:, 12:].mean((1, 2))
        return torch.stack([last - self.weight * first, first - self.weight * last], 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images with a bright upper left corner, two with a lower right one, in folders; one broken file, one text."""
    for number in range(5):
        pixels = np.full((16, 16, 3), 10, dtype=np.uint8)
        pixels[slice(0, 4) if number < 3 else slice(12, 16), slice(0, 4) if number < 3 else slice(12, 16)] = (
            200 + number
        )
        place = tmp_path / ("a" if number % 2 else "b") / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(place)
    (tmp_path / "b" / "broken.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("no image either")
    return tmp_path


def test_a_folder_is_looked_through(folder: Path) -> None:
    raw = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))
    net = wrap(Corner(), {"mid": "first"}, example=torch.rand(2, 3, 16, 16))
    found = survey(net, folder, attribution="ixg", depth="input", classes=["right", "left"], preprocess=raw, groups=2)
    assert [Path(str(image)).name for image in found.images] == ["1.png", "3.png", "0.png", "2.png", "4.png"]
    assert found.names == ("left", "right", "left", "left", "right")
    assert found.groups.tolist() == [0, 1, 0, 0, 1]
    # All positive evidence is in a corner of 4 x 4 pixels; a border of a tenth of 16 pixels is two wide: 12 of 16 pixels.
    assert found.corners.tolist() == pytest.approx([1.0] * 5)
    assert found.border.tolist() == pytest.approx([0.75] * 5)
    assert found.chance == pytest.approx({"border": 1 - 12**2 / 16**2, "corners": 0.25})
    assert found.mean_map(0)[:2, :2].sum() == pytest.approx(1.0)
    assert found.mean_map(1)[6:, 6:].sum() == pytest.approx(1.0)
    ((file, why),) = found.unread
    assert file.endswith("broken.png")
    assert "cannot be read" in why
    assert found.order("uncertain")[0] == 2  # 0.png: the darkest corner
    assert [row["images"] for row in found.table()] == [3, 2]
    assert found.table()[0]["classes"] == {"left": 3}
    assert [row["class"] for row in found.table("class")] == ["left", "right"]
    with pytest.raises(ValueError, match="border"):
        found.order("size")
    with pytest.raises(ValueError, match="no group 2; the groups are 0 to 1"):
        found.mean_map(2)


def test_an_unusual_map_is_first_and_what_cannot_be_surveyed_says_so(folder: Path, tmp_path: Path) -> None:
    net = wrap(
        nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(3 * 4 * 4, 2)),
        {"mid": "0"},
        example=torch.rand(2, 3, 4, 4),
    )
    with torch.no_grad():
        linear: Tensor = net.get_parameter("net.2.weight")
        linear.copy_(torch.stack([torch.ones(48), torch.zeros(48)]))
    images = torch.zeros(4, 3, 4, 4)
    images[:3, :, 0, 0], images[3, :, 3, 3] = 1.0, 1.0
    found = survey(net, images, depth="input", batch_size=3)  # type: ignore[arg-type]
    assert found.order("unusual")[0] == 3
    assert found.unread == ()
    with pytest.raises(ValueError, match="is no folder"):
        survey(net, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there is no image in"):
        survey(net, tmp_path / "empty")
    with pytest.raises(ValueError, match="none of the 1 images can be read"):
        survey(net, [folder / "b" / "broken.png"], preprocess=Preprocessing(size=4))
