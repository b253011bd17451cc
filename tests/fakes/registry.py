"""A registry (API v2) on loopback, small but real to the engine: it serves images that `docker save` wrote.

The engine treats 127.0.0.0/8 as allowed without TLS, so that a pull from here is a pull like any other.
"""

import base64
import contextlib
import gzip
import hashlib
import io
import json
import secrets
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Registry:
    """Serves what `add` was given. `login`: "user:password" that it asks for. `pace`: seconds between two pieces of a blob.

    `bearer`: it wants a token, which its token server gives for the login. `echoes`: it says what it was shown.
    """

    def __init__(self, *, login: str = "") -> None:
        self.login = login
        self.bearer = False
        self.echoes = False
        self._token = secrets.token_hex(8)
        self.pace = 0.0
        self.requests: list[str] = []
        self.manifests: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.answer(self)

            do_HEAD = do_GET  # noqa: N815  # the library's name

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the signature is the library's
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, tag: str, saved: bytes) -> str:
        """Serve the one image of an archive; the reference to pull it by."""
        with tarfile.open(fileobj=io.BytesIO(saved)) as tar:
            files = {m.name: f.read() for m in tar if (f := tar.extractfile(m)) is not None}
            (image,) = json.loads(files["manifest.json"])
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._blob(files[image["Config"]], _CONFIG),
            "layers": [self._blob(gzip.compress(files[layer], 1), _LAYER) for layer in image["Layers"]],
        }
        self.manifests[f"{name}/{tag}"] = json.dumps(manifest).encode()
        return f"{self.host}/{name}:{tag}"

    def _blob(self, data: bytes, kind: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return {"mediaType": kind, "size": len(data), "digest": digest}

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request, as the specification of the registry API says."""
        self.requests.append(f"{request.command} {request.path}")
        shown = request.headers.get("Authorization", "")
        basic = "Basic " + base64.b64encode(self.login.encode()).decode()
        if self.login and request.path.startswith("/token"):
            right = json.dumps({"token": self._token, "access_token": self._token}).encode()
            self._send(request, *((200, right) if shown == basic else (401, self._refusal(shown))))
            return
        if self.login and shown != (f"Bearer {self._token}" if self.bearer else basic):
            self._send(request, 401, self._refusal(shown), challenge=True)
            return
        parts = request.path.strip("/").split("/")
        if parts == ["v2"]:
            self._send(request, 200, b"{}")
        elif parts[-2] == "manifests":
            self._manifest(request, "/".join(parts[1:-2]), parts[-1])
        elif parts[-2] == "blobs" and parts[-1] in self.blobs:
            self._send(request, 200, self.blobs[parts[-1]], kind="application/octet-stream", pace=self.pace)
        else:
            self._send(request, 404, _errors("NOT_FOUND", "not found"))

    def _refusal(self, shown: str) -> bytes:
        echo = base64.b64decode(shown.removeprefix("Basic ")).decode() if shown.startswith("Basic ") else shown
        said = f"authentication required{f', not {echo} ({shown})' if self.echoes else ''}"
        return _errors("UNAUTHORIZED", said)

    def _manifest(self, request: BaseHTTPRequestHandler, name: str, tag: str) -> None:
        found = self.manifests.get(f"{name}/{tag}")
        if found is None:
            by_digest = {f"sha256:{hashlib.sha256(m).hexdigest()}": m for m in self.manifests.values()}
            found = by_digest.get(tag)
        if found is None:
            self._send(request, 404, _errors("MANIFEST_UNKNOWN", "manifest unknown"))
        else:
            self._send(request, 200, found, kind=_MANIFEST)

    def _send(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        *,
        kind: str = "application/json",
        challenge: bool = False,
        pace: float = 0.0,
    ) -> None:
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        if kind == _MANIFEST:
            request.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(body).hexdigest()}")
        if challenge:
            bearer = f'Bearer realm="http://{self.host}/token",service="test"'
            request.send_header("WWW-Authenticate", bearer if self.bearer else 'Basic realm="test"')
        request.end_headers()
        if request.command == "HEAD":
            return
        piece = max(1, len(body) // 8) if pace else len(body) or 1
        with contextlib.suppress(ConnectionError):  # the engine may hang up in the middle
            for start in range(0, len(body), piece):
                request.wfile.write(body[start : start + piece])
                time.sleep(pace)


def _errors(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()
