"""The server answers this machine, this page and its token, and nobody else."""

from __future__ import annotations

import io
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from guidance.annotating.server import listen
from tests.unit.tools.annotating.conftest import EVIL, TOKEN, Served, ask, boxes_in

ROOT = Path(__file__).parents[4]


def test_only_this_page_of_this_machine_with_its_token_is_answered(serve: Callable[..., Served]) -> None:
    served = serve()
    paths = ("/", "/api/set", "/api/image/0", "/image/0", "/thumb/0", "/api/map/0", "/nothing")
    here = f"127.0.0.1:{served.port}"
    refused: list[dict[str, str | None]] = [
        {"X_Token": None}, {"X_Token": ""}, {"X_Token": "a-tokem"}, {"X_Token": "é"},
        {"Host": None}, {"Host": "127.0.0.1"}, {"Host": f"evil.example:{served.port}"}, {"Host": f"[::1]:{served.port}"},
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": f"https://{here}"}, {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"},
    ]  # fmt: skip
    for headers in refused:
        for path in paths:
            assert ask(served, path, **headers)[0] == 403, (headers, path)
        assert ask(served, "/api/image/0", "PUT", {"revision": "", "boxes": []}, **headers)[0] == 403, headers
    assert len(boxes_in(served.root, "0.png")) == 1
    accepted: list[dict[str, str]] = [
        {}, {"Origin": f"http://{here}", "Sec_Fetch_Site": "same-origin"},
        {"Host": f"localhost:{served.port}", "Origin": f"http://localhost:{served.port}"},
    ]  # fmt: skip
    for headers in accepted:
        assert [ask(served, path, **headers)[0] for path in paths] == [200] * 6 + [404], headers
    assert ask(served, f"/image/0?token={TOKEN}", X_Token=None)[0] == 200
    _, page, response = ask(served, "/")
    policy = response.headers["Content-Security-Policy"]
    nonce = re.search(r"script-src 'nonce-([^']+)'", policy)
    assert "default-src 'none'" in policy
    assert nonce is not None
    assert page.decode().count(nonce[1]) == 2
    assert TOKEN not in page.decode()
    assert EVIL not in page.decode()
    assert "{{" not in page.decode()
    assert {response.headers[name] for name in ("X-Frame-Options", "Referrer-Policy")} == {"DENY", "no-referrer"}
    assert ask(served, f"/?token={TOKEN}", X_Token=None)[1] != page  # each has a nonce of its own


def test_it_listens_to_this_machine_alone(serve: Callable[..., Served]) -> None:
    served = serve()
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in [*others, "127.0.0.2"]:
        with pytest.raises(OSError, match=r"."):
            socket.create_connection((str(address), served.port), timeout=2)
    with pytest.raises(ValueError, match=r"port \d+ of this machine is in use"):
        listen(served.application, served.port)


def test_no_path_leads_out_of_the_folder(serve: Callable[..., Served]) -> None:
    served = serve()
    (served.root / "images/link.png").symlink_to(served.root / "annotations.json")
    for path in (
        "/image/../../annotations.json", "/image/..%2f..%2fannotations.json", "/image/%2e%2e/annotations.json", "/image/3",
        "/image/-1", "/image/0/../1x", "/image/0.png", "//etc/passwd", "/image//etc/passwd", "/image/99999999999999999999",
        f"/image/{quote(EVIL)}", "/page/state.js", "/image/0%00", "/thumb/3", "/api/image/3", "/api/map/3",
    ):  # fmt: skip
        assert ask(served, path)[0] == 404, path
    contents = [ask(served, f"/image/{number}") for number in range(3)]
    files = [served.root / "images" / entry.name for entry in served.application.store.entries]
    assert [content for _, content, _ in contents] == [path.read_bytes() for path in files]
    assert Image.open(io.BytesIO(ask(served, "/thumb/2")[1])).size == (96, 64)
    files[0].unlink()
    files[0].symlink_to(served.root / "annotations.json")
    assert ask(served, "/image/0")[0] == 404
    (served.root / "images/deep/1.png").write_bytes(b"no picture")
    assert ask(served, "/thumb/1")[0] == 404


def test_reading_and_saving(serve: Callable[..., Served]) -> None:
    served = serve()
    _, content, _ = ask(served, "/api/set")
    assert content["classes"] == ["cat", "dog"]
    assert content["images"] == [["0.png", "in", [0], 1], ["deep/1.png", "out", [1], 0], [EVIL, "in", [], 0]]
    assert content["orders"] == ["listed", "random"]
    _, before, _ = ask(served, "/api/image/0")
    box = {"key": 7, "label": 0, "box": [10, 20, 40, 60], "never": False, "outlined": True}
    assert before == {"revision": before["revision"], "boxes": [box], "labels": [0], "size": [200, 300]}
    added = {"key": None, "label": 1, "box": [1, 2, 3, 4], "never": True}
    status, after, _ = ask(served, "/api/image/0", "PUT", {"revision": before["revision"], "boxes": [box, added]})
    assert status == 200
    assert after["boxes"] == [box, {**added, "key": 8, "outlined": False}]
    status, stale, _ = ask(served, "/api/image/0", "PUT", {"revision": before["revision"], "boxes": []})
    assert (status, stale["revision"], stale["boxes"]) == (409, after["revision"], after["boxes"])
    assert len(boxes_in(served.root, "0.png")) == 2
    for body in (
        [],
        {"revision": after["revision"]},
        {"revision": after["revision"], "boxes": [{**added, "box": [0]}]},
    ):
        assert ask(served, "/api/image/0", "PUT", body)[0] == 400
    assert ask(served, "/api/image/0", "PUT", {"boxes": ["x" * 2**20]})[0] == 413
    assert ask(served, "/api/image/0", "DELETE")[0] == 405
    assert ask(served, "/api/order?by=random")[1] == {
        "order": ask(served, "/api/order?by=random")[1]["order"],
        "progress": [0, 0],
    }
    assert ask(served, "/api/order?by=nothing")[0] == 400
    assert ask(served, "/api/map/0")[1] == {"status": "none"}


def test_saving_from_many_threads(serve: Callable[..., Served]) -> None:
    """Each adds a box, and tries again when another one was quicker: all are there in the end."""
    served = serve()

    def add(x: int) -> None:
        while True:
            _, state, _ = ask(served, "/api/image/1")
            box = {"key": None, "label": 0, "box": [x, 0, x + 1, 9], "never": False}
            body = {"revision": state["revision"], "boxes": [*state["boxes"], box]}
            if ask(served, "/api/image/1", "PUT", body)[0] == 200:
                return

    threads = [threading.Thread(target=add, args=(x,)) for x in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry["bbox"][0] for entry in boxes_in(served.root, "deep/1.png")) == list(range(8))
