"""Draw how_it_works.png from the runs of launch/demo.sh: `PYTHONPATH=. python docs/assets/how_it_works.py`."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from guidance.assembly import build_attribution, build_evaluation_dataset, build_source
from guidance.attribution import explain_classes
from guidance.data import to_display
from guidance.inference import load_run
from guidance.maps import energy_share, upsample
from guidance.pictures.layout import write_png
from guidance.pictures.panels import panel

SHOWN = 4  # position in the test split


def main() -> None:
    maps: dict[str, Tensor] = {}
    for name in ("unguided", "guided"):
        run = load_run(f"runs/demo_{name}")
        sample = build_evaluation_dataset(run.config, build_source(run.config, "test"))[0, SHOWN]
        images, target = sample.image[None].float(), sample.classes[:1]
        method, depth = build_attribution(run.config)
        found = explain_classes(run.model, images, lambda logits, t=target: t[:, None], method=method, depth=depth)
        maps[name] = upsample(found.maps.detach(), images.shape[2:])
    mask = sample.masks[:1]
    epg = {name: [f"EPG {energy_share(found, mask).item():.2f}"] for name, found in maps.items()}
    positive = maps["unguided"].relu()
    columns = {
        "map, unguided": maps["unguided"], "for the class": positive, "inside the box": positive * mask,
        "map, guided": maps["guided"],
    }  # fmt: skip
    captions = {"for the class": ["all of it: 1"], "inside the box": epg["unguided"], "map, guided": epg["guided"]}
    names = [run.classes[int(target)]]
    picture = panel(to_display(images, "normalized"), columns, mask, captions, names=names, shared_scale=False)
    write_png(Path(__file__).with_suffix(".png"), picture)


if __name__ == "__main__":
    main()
