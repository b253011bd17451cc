"""Whoever is told: a real HTTP server on loopback that checks signatures. It may stall, redirect, break off or speak TLS."""

import contextlib
import hashlib
import hmac
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Receiver:
    """`bodies`: what came with a right signature; `wrong`: how much did not; `seen`: every request's line and headers.

    `answers`: codes for the next requests, 200 after that; a code may be a pair with headers. `behaviour`: "answer", "stall",
    "break" (in its first line), "trickle" (a line that never ends) or "mute" (hangs up without a word).
    """

    def __init__(self, *, secret: str = "", certificate: Path | None = None, key: Path | None = None) -> None:
        self.secret = secret
        self.behaviour = "answer"
        self.answers: list[Any] = []
        self.bodies: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.wrong = 0
        self.under_way = 0
        self.most_at_once = 0
        self.over = threading.Event()
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.take(self)

            def do_CONNECT(self) -> None:
                outer.seen.append((self.requestline, dict(self.headers)))
                self.send_error(403)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
            scheme = "https"
        self.port = self._http.server_port
        self.url = f"{scheme}://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def take(self, request: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.under_way += 1
            self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            self._take(request)
        finally:
            with self._lock:
                self.under_way -= 1

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        self.seen.append((request.requestline, dict(request.headers)))
        self.times.append(time.monotonic())
        mac = "sha256=" + hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()
        right = not self.secret or hmac.compare_digest(mac, request.headers.get("x-xmod-signature-256", ""))
        if self.behaviour == "stall":
            self.over.wait(60)
        elif self.behaviour == "trickle":
            with contextlib.suppress(OSError):
                while not self.over.wait(0.05):
                    request.wfile.write(b"H")
        elif self.behaviour == "break":
            request.wfile.write(b"HTTP/1.1 20")
        elif self.behaviour == "mute":
            pass
        elif not right:
            self.wrong += 1
            request.send_error(401)
        else:
            self._answer(request, body)
        request.close_connection = True

    def _answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        answer = self.answers.pop(0) if self.answers else 200
        code, headers = answer if isinstance(answer, tuple) else (answer, {})
        if code == 200:
            self.bodies.append(json.loads(body))
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def close(self) -> None:
        self.over.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


@contextlib.contextmanager
def receiver(**options: Any) -> Iterator[Receiver]:
    made = Receiver(**options)
    try:
        yield made
    finally:
        made.close()


def certified(folder: Path) -> tuple[Path, Path, Path]:
    """A CA of our own, and a certificate of 127.0.0.1 by it with its key: their paths."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl(
        "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=a test's CA", *usage
    )
    openssl("req", *key, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=127.0.0.1")
    (folder / "more").write_text(
        "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "more", "-days", "2")
    openssl("x509", "-req", "-in", "request.pem", "-out", "cert.pem", *signing)
    return folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
