"""The server of the page: for this machine alone, and for whoever knows its token.

A page of the web that is open in the same browser can send requests to this machine. So every request must carry the token,
which only the printed address has; must name this machine as its host, which a name that was pointed here later does not (DNS
rebinding); and must come from this page, where the browser says where it comes from. Images are asked for by number.
"""

from __future__ import annotations

import base64
import hmac
import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import Forbidden, HTTPException, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from guidance.annotating.assets import page
from guidance.annotating.ordering import NEEDS_NET, ORDERS, sort_images
from guidance.annotating.pictures import picture, thumbnail
from guidance.annotating.store import ImageState, StaleError, Store
from guidance.annotating.worker import MapWorker
from guidance.data.reading.decode import UnreadableError

if TYPE_CHECKING:  # boxes alone should not need nets
    from guidance.annotating.explaining import ImageExplanation

LOG = logging.getLogger(__name__)
HOST = "127.0.0.1"
LARGEST = 2**20  # bytes of a request
HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY", "Cache-Control": "no-store",
}  # fmt: skip
ROUTES = Map([
    Rule("/", endpoint="page", methods=["GET"]),
    Rule("/api/set", endpoint="set", methods=["GET"]),
    Rule("/api/order", endpoint="order", methods=["GET"]),
    Rule("/api/image/<int:number>", endpoint="read", methods=["GET"]),
    Rule("/api/image/<int:number>", endpoint="save", methods=["PUT"]),
    Rule("/api/map/<int:number>", endpoint="map", methods=["GET"]),
    Rule("/image/<int:number>", endpoint="image", methods=["GET"]),
    Rule("/thumb/<int:number>", endpoint="thumb", methods=["GET"]),
], merge_slashes=False)  # fmt: skip


class Application:
    """The WSGI application. `maps`: those of a net, None without one; `seed` makes the random order."""

    def __init__(
        self, store: Store, token: str, *, maps: MapWorker | None = None, title: str = "", seed: int = 0
    ) -> None:
        self.store, self.maps, self._token, self._title, self._seed = store, maps, token, title, seed
        self.port = 0  # known when the server listens
        self._endpoints: Mapping[str, Callable[..., Response]] = {
            "page": self._page, "set": self._set, "order": self._order, "read": self._read, "save": self._save,
            "map": self._map, "image": self._image, "thumb": self._thumb,
        }  # fmt: skip

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        request = Request(environ)
        request.max_content_length = LARGEST
        try:
            self._check(request)
            endpoint, arguments = ROUTES.bind_to_environ(environ).match()
            response = self._endpoints[endpoint](request, **arguments)
        except HTTPException as error:
            response = _json({"error": error.description or error.name}, error.code or 500)
        except (KeyError, UnreadableError) as error:
            response = _json({"error": f"there is no such image ({error})"}, NotFound.code)
        except ValueError as error:
            response = _json({"error": str(error)}, 400)
        except OSError as error:
            LOG.exception("a request failed")
            response = _json({"error": f"the file cannot be written or read: {error}"}, 500)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response(environ, start_response)

    def _check(self, request: Request) -> None:
        names = [f"{name}:{self.port}" for name in (HOST, "localhost")]
        if request.headers.get("Host") not in names:
            raise Forbidden("this page is served to this machine only")
        origin = request.headers.get("Origin")
        site = request.headers.get("Sec-Fetch-Site", "none")
        if (origin is not None and origin not in [f"http://{name}" for name in names]) or site not in (
            "none",
            "same-origin",
        ):
            raise Forbidden("another page asked for this")
        given = request.headers.get("X-Token") or request.args.get("token") or ""
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise Forbidden("the token is missing or wrong; open the address that tools/annotate.py printed")

    def _page(self, request: Request) -> Response:
        content, policy = page(self._title)
        return Response(content, mimetype="text/html", headers={"Content-Security-Policy": policy})

    def _set(self, request: Request) -> Response:
        store = self.store
        return _json({
            "title": self._title, "classes": store.classes, "displayed": store.displayed, "net": self.maps is not None,
            "orders": [name for name in ORDERS if self.maps is not None or name not in NEEDS_NET],
            "images": [
                [entry.name, entry.group, labels, count]
                for entry, (labels, count) in zip(store.entries, store.summary(), strict=True)
            ],
        })  # fmt: skip

    def _order(self, request: Request) -> Response:
        by = request.args.get("by", "listed")
        if by not in ORDERS:
            raise ValueError(f"there is no order {by!r}; expected one of {', '.join(ORDERS)}")
        scores = {} if self.maps is None else self.maps.known_scores()
        progress = (0, 0) if self.maps is None else self.maps.progress()
        names = [entry.name for entry in self.store.entries]
        return _json({"order": sort_images(names, scores, by, seed=self._seed), "progress": progress})

    def _read(self, request: Request, number: int) -> Response:
        return _json(self._described(number, self.store.state(number)))

    def _save(self, request: Request, number: int) -> Response:
        content = request.get_json()
        if not isinstance(content, dict) or not isinstance(content.get("boxes"), list):
            raise ValueError("expected an object with revision and boxes")
        try:
            state = self.store.save(number, str(content.get("revision")), content["boxes"])
        except StaleError as error:
            return _json({"error": str(error)} | self._described(number, self.store.state(number)), 409)
        if self.maps is not None:
            self.maps.forget(number)
        return _json(self._described(number, state))

    def _described(self, number: int, state: ImageState) -> dict[str, Any]:
        boxes = [asdict(box) for box in state.boxes]
        return {"revision": state.revision, "boxes": boxes, "labels": state.labels, "size": self.store.size(number)}

    def _map(self, request: Request, number: int) -> Response:
        self.store.path(number)
        found = None if self.maps is None else self.maps.get(number)
        if found is None:
            return _json({"status": "none" if self.maps is None else "waiting"})
        return _json({"status": "failed", "why": found} if isinstance(found, str) else _explained(found))

    def _image(self, request: Request, number: int) -> Response:
        content, kind = picture(self.store.path(number), displayed=self.store.displayed)
        return Response(content, mimetype=kind, headers={"Cache-Control": "private, max-age=60"})

    def _thumb(self, request: Request, number: int) -> Response:
        content = thumbnail(self.store.path(number), displayed=self.store.displayed)
        return Response(content, mimetype="image/jpeg", headers={"Cache-Control": "private, max-age=600"})


def _json(content: Mapping[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(content), status=status, mimetype="application/json")


def _explained(found: ImageExplanation) -> dict[str, Any]:
    maps = [
        {"name": each.name, "epg": _finite(each.epg), "outside": _finite(each.outside), "picture": _url(each.picture)}
        for each in found.maps
    ]
    return {"status": "ready", "predictions": found.predictions, "maps": maps, "picture": _url(found.picture)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


class _Quiet(WSGIRequestHandler):
    """Logs no request: their addresses hold the token."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def listen(application: Application, port: int = 0) -> BaseWSGIServer:
    """A server on the loopback address; `port` 0 takes a free one. ValueError where the port is taken."""
    try:
        server = make_server(HOST, port, application, threaded=True, request_handler=_Quiet)
    except SystemExit as error:  # how Werkzeug ends where it cannot listen
        raise ValueError(f"port {port} of this machine is in use or not allowed; choose another --port") from error
    application.port = server.server_port
    return server
