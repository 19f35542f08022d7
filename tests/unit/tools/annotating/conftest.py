"""A set to annotate, its server in a thread of this process, and a browser."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from guidance.annotating.layouts import find_place
from guidance.annotating.server import Application, listen
from guidance.annotating.store import Store
from guidance.annotating.worker import MapWorker
from tests.support.data.pictures import write_picture
from tests.unit.results.html.browsing import chromium, js, wait

TOKEN = "a-token"
EVIL = "<img src=x onerror='window.hacked = 1'>&amp; é #?%2e.png"
NAMES = ("0.png", "deep/1.png", EVIL)
HEIGHT, WIDTH = 200, 300


def write_set(root: Path) -> Path:
    """Three images, the first two in the JSON, with fields that nobody here knows."""
    for seed, name in enumerate(NAMES):
        write_picture(root / "images" / name, HEIGHT, WIDTH, seed)
    content = {
        "info": {"year": 2026},
        "images": [{"id": f"i{n}", "file_name": NAMES[n], "height": HEIGHT, "width": WIDTH, "camera": n} for n in (0, 1)],
        "annotations": [
            {"id": 7, "image_id": "i0", "category_id": 3, "bbox": [10, 20, 30, 40], "by": "me", "area": 1200,
             "segmentation": [[10, 20, 40, 20, 40, 60]]},
            {"id": 0, "image_id": "i1", "category_id": 5},
        ],
        "categories": [{"id": 5, "name": "dog"}, {"id": 3, "name": "cat", "supercategory": "pet"}],
    }  # fmt: skip
    (root / "annotations.json").write_text(json.dumps(content))
    (root / "groups.csv").write_text(f'image,group\n0.png,in\ndeep/1.png,out\n"{EVIL}",in\n')
    return root


def read(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "annotations.json").read_text())
    return found


def boxes_in(root: Path, name: str) -> list[dict[str, Any]]:
    """The annotations of an image that have a box, as the file has them."""
    content = read(root)
    keys = [entry["id"] for entry in content["images"] if entry["file_name"] == name]
    return [entry for entry in content["annotations"] if entry["image_id"] in keys and "bbox" in entry]


class Served:
    """A server that runs."""

    def __init__(self, root: Path, application: Application, port: int) -> None:
        self.root, self.application, self.port = root, application, port
        self.address = f"http://127.0.0.1:{port}/?token={TOKEN}"


def ask(
    served: Served, path: str, method: str = "GET", body: Any = None, **headers: str | None
) -> tuple[int, Any, http.client.HTTPResponse]:
    """Status, content and answer to a request whose path goes out as it is; header_name=None leaves one out."""
    given = {"Host": f"127.0.0.1:{served.port}", "X-Token": TOKEN, "Content-Type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}  # type: ignore[misc]
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    content = b"" if body is None else json.dumps(body).encode()
    for name, value in {**given, "Content-Length": str(len(content))}.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(content)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    kind = response.headers.get_content_type()
    return response.status, json.loads(answer) if kind == "application/json" else answer, response


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Serves a set, by default that of `write_set`, until the test ends."""
    servers = []

    def start(root: Path | None = None, maps: MapWorker | None = None, store: Store | None = None) -> Served:
        root = write_set(tmp_path / "set") if root is None else root
        application = Application(store or Store(find_place(root)), TOKEN, maps=maps, title=f"set {EVIL}")
        server = listen(application)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        servers.append((server, thread))
        return Served(root, application, server.server_port)

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium with a profile of its own."""
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a server's page, on a screen of `width` x `height` pixels of which each is `ratio` of the device's."""

    def show(served: Served, width: int = 1280, height: int = 900, ratio: float = 1, touch: bool = False) -> Any:
        screen = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": touch}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        browser.get(served.address)
        wait(lambda: js(browser, "return document.body.dataset.ready"))
        return browser

    yield show
    severe = [
        entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE" and "409" not in entry["message"]
    ]
    browser.get("about:blank")
    assert severe == []
