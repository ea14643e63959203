"""The files of the page, read once: they are few, and no path of a request reaches the disk."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "LICENSE": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asset:
    packed: bytes
    plain: bytes
    type: str
    tag: str


class Assets:
    """By name."""

    def __init__(self) -> None:
        self._assets: dict[str, _Asset] = {}
        for file in files("headrace.console").joinpath("page").iterdir():
            kind = _TYPES.get(file.name.rpartition(".")[2])
            if kind is not None:
                content = file.read_bytes()
                self._assets[file.name] = _Asset(
                    packed=gzip.compress(content, mtime=0),
                    plain=content,
                    type=kind,
                    tag=f'"{hashlib.sha256(content).hexdigest()[:16]}"',
                )

    def answer(self, name: str, request: Request) -> Response:
        """A file, or that the browser has it, or that there is none of that name."""
        asset = self._assets.get(name)
        if asset is None:
            return Response("there is no such page\n", status_code=404, media_type="text/plain")
        # Asked for each time, and told within a millisecond that it has not changed: an update shows at once.
        headers = {"etag": asset.tag, "cache-control": "no-cache", "vary": "accept-encoding"}
        if request.headers.get("if-none-match") == asset.tag:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            packed = {**headers, "content-encoding": "gzip"}
            return Response(asset.packed, headers=packed, media_type=asset.type)
        return Response(asset.plain, headers=headers, media_type=asset.type)
