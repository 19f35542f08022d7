"""Annotate images of your own on a page that this machine serves to itself.

    python tools/annotate.py DATA [--run runs/mine] [--classes cat dog] [--port 8765]

DATA is a data set of your own: a folder "images" with COCO JSON files (or without any yet), a folder of images for each class,
folders train/<class>, val/<class>, or a folder of images. In the first case the JSON files are changed where they are; else a
set is made beside DATA (or in --output), which holds a link to the images and keeps the classes, boxes, masks and groups that
are there. Train on it with data.name: custom. The file is written after each change, and is whole at any moment; what is in it
besides boxes stays.

--run shows what a net of this project makes of the image and its boxes: prediction, map, EPG; images can then come in the order
of what it does worst. Open the address that is printed. It holds a token, and only this machine is answered. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from guidance import cli

if TYPE_CHECKING:
    from guidance.annotating.explaining import ImageExplanation
    from guidance.annotating.worker import MapWorker
if not cli.asks_for_help():
    from guidance.annotating.layouts import find_place
    from guidance.annotating.store import Store
    from guidance.runs.locks import lock_folder


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    about, _, details = (__doc__ or "").partition("\n\n")
    parser = cli.build_parser(about)
    parser.epilog = details
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of images, or a data set of your own")
    parser.add_argument("--run", type=Path, help="a run folder or a checkpoint, whose maps are shown")
    parser.add_argument("--classes", nargs="+", action="extend", default=[], metavar="NAME", help="classes to be added")
    parser.add_argument("--output", type=Path, metavar="DIR", help="the set that is made of a folder of images")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--seed", type=int, default=0, help="of the random order (default: 0)")
    parser.add_argument(
        "--orientation", choices=("stored", "displayed"), default="stored",
        help="whether boxes refer to images as EXIF turns them, as data.orientation of the config (default: stored)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="make the set and count its images, but serve nothing")
    cli.add_imports(parser)
    return parser.parse_args(argv)


def start_maps(run: Path, store: Store) -> MapWorker:
    """The maps of a run, made in the background."""
    # Not above: boxes alone should not need nets.
    from guidance.annotating.explaining import Explainer
    from guidance.annotating.worker import MapWorker
    from guidance.inference import load_run

    explainer = Explainer(load_run(run, device=cli.available_device()), store.classes, displayed=store.displayed)

    def explain(number: int) -> ImageExplanation:
        state = store.state(number)
        return explainer(store.path(number), state.boxes, state.labels)

    return MapWorker(len(store.entries), explain)


def annotate(args: argparse.Namespace) -> None:
    """Do what the command does."""
    place = find_place(args.data, args.output, args.classes)
    lock = lock_folder(place.root)
    try:
        store = Store(place, classes=args.classes, displayed=args.orientation == "displayed")
        print(f"{len(store.entries)} images; boxes go to {', '.join(map(str, place.files))}")
        if store.left_out:
            left_out = f"{len(store.left_out)} images are missing, or links out of the folder, and left out"
            print(f"{left_out} (first: {store.left_out[0]})")
        print(f"train with --set data.name=custom data.root={place.root}\n")
        if not args.dry_run:
            serve(store, args, title=place.root.resolve().name)
    finally:
        if lock is not None:
            lock.close()


def serve(store: Store, args: argparse.Namespace, *, title: str) -> None:
    """Answer the page until ctrl-C."""
    try:
        from guidance.annotating.server import HOST, Application, listen
    except ImportError as error:
        raise ValueError(
            "the page is served with Werkzeug, which is not installed: pip install 'guidance[annotate]' (or werkzeug)"
        ) from error
    token = secrets.token_urlsafe(24)
    maps = None if args.run is None else start_maps(args.run, store)
    try:
        server = listen(Application(store, token, maps=maps, title=title, seed=args.seed), args.port)
        print(f"open http://{HOST}:{server.server_port}/?token={token}\nctrl-C ends it", flush=True)
        try:
            server.serve_forever()
        finally:
            server.server_close()
    finally:
        if maps is not None:
            maps.close()


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    cli.set_up_logging()
    return cli.run(lambda: annotate(args), interrupted="every change is in the file")


if __name__ == "__main__":
    sys.exit(main())
