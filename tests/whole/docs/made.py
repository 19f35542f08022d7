"""What the commands of the pages are run on: pictures, weights and folders that are made."""

from __future__ import annotations

from pathlib import Path


def random_weights(project: Path) -> Path:
    """Weights of ImageNet that need no network."""
    import torch
    from torchvision.models import resnet18

    torch.save(resnet18().state_dict(), project / "random.pth")
    return project / "random.pth"


def class_folders(project: Path) -> Path:
    """A picture of two classes each, one by its name and one by its WordNet id."""
    from PIL import Image

    for name in ("golden_retriever", "n01440764"):
        (project / "images" / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 60), "green").save(project / "images" / name / "0.png")
    return project / "images"


def own_images(project: Path) -> str:
    """Two pictures of two signs, in folders, for a run on the demo set."""
    from PIL import Image

    for name in ("bar", "disc"):
        (project / "mine" / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), "green").save(project / "mine" / name / "0.png")
    return str(project / "mine")


def yolo_export(project: Path) -> None:
    """A picture with a box in the format of YOLO."""
    from PIL import Image

    folder = project / "data/yolo"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (80, 60), "green").save(folder / "images/0.png")
    (folder / "labels/0.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    (folder / "classes.txt").write_text("cat\n")


def twelfth(data: Path, folder: Path) -> None:
    """A folder like the sample of Waterbirds-100, with each twelfth of its images."""
    (birds,) = data.glob("waterbird_*")
    (folder / birds.name).mkdir(parents=True)
    (folder / "CUB_200_2011").symlink_to(data / "CUB_200_2011")
    for species in filter(Path.is_dir, birds.iterdir()):
        (folder / birds.name / species.name).symlink_to(species)
    head, *rows = (birds / "metadata.csv").read_text().splitlines()
    (folder / birds.name / "metadata.csv").write_text("\n".join([head, *rows[::12], ""]))
