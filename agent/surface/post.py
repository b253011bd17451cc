"""Signed, bounded delivery of one JSON document to a URL of the operator's.

The body is signed with HMAC-SHA256, the certificate is checked (SSL_CERT_FILE names another CA), HTTPS_PROXY, HTTP_PROXY and
NO_PROXY are heeded, and each delivery ends within `_LONGEST` seconds, however slowly the other end trickles. A redirect is a
failure: it would carry the document, and what is secret in a URL, to a host that nobody named. A URL often is a secret
itself, so sentences name its scheme and host only.
"""

import base64
import contextlib
import hmac
import http.client
import re
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from threading import Event
from urllib.parse import SplitResult, unquote, urlsplit

from agent import __version__
from agent.surface.secret_file import NoSecret, SecretFile

_PATIENCE = 10.0  # seconds for connecting, and for each piece of the answer
_LONGEST = 20.0  # seconds for a whole delivery
_STEP = 0.2  # seconds between two looks whether it is to be cut short
_AFTER = 600.0  # seconds that Retry-After may ask for
_LATER = (408, 421, 425, 429)  # below 500, of which another try may come to something


class BadUrl(ValueError):
    """A URL that cannot be meant, and why; without the URL."""


class NotSent(Exception):
    """Why a delivery did not arrive. `refused`: another try is of no use; `after`: seconds that the other end asks to wait."""

    def __init__(self, message: str, *, refused: bool = False, after: float = 0.0) -> None:
        super().__init__(message)
        self.refused = refused
        self.after = after


@dataclass(frozen=True, slots=True)
class Url:
    """A checked URL. `shown`: what people may see of it."""

    text: str = field(repr=False)

    @property
    def parts(self) -> SplitResult:
        """What it consists of."""
        return urlsplit(self.text)

    @property
    def shown(self) -> str:
        """Its scheme and host."""
        host = self.parts.netloc.rpartition("@")[2]
        return f"{self.parts.scheme}://{host}" + ("/…" if len(self.parts.path) > 1 or self.parts.query else "")


def checked(text: str, setting: str) -> Url:
    """Check a URL. Raises BadUrl."""
    try:
        parts = urlsplit(text)
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
    except ValueError:
        wrong = True
    if wrong or re.search(r"[^\x21-\x7e]", text):
        raise BadUrl(f"{setting}: must be a URL such as https://example.com/hook")
    return Url(text)


class Post:
    """One receiver. `url`, or else the file that holds it; `secret`: signs, None: nothing is signed."""

    def __init__(self, *, url: Url | SecretFile, secret: SecretFile | None, setting: str) -> None:
        self._url = url
        self._secret = secret
        self._setting = setting

    def url(self) -> Url:
        """Where it goes now. Raises NoSecret, BadUrl."""
        return self._url if isinstance(self._url, Url) else checked(self._url.read()[0], self._setting)

    def send(self, body: bytes, *, event: str, delivery: str, stop: Event) -> None:
        """Deliver it, once. Raises NotSent."""
        try:
            url = self.url()
            headers = self._headers(url, body, event, delivery)
        except (NoSecret, BadUrl) as error:
            raise NotSent(str(error)) from error
        try:
            connection, target, more = _way(url)
            answer = _answer(connection, lambda: connection.request("POST", target, body, headers | more), stop)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotSent(f"{url.shown}: {_words(error)}") from None  # the error may hold the URL
        if not 200 <= answer.status < 300:
            raise _declined(url, answer)

    def _headers(self, url: Url, body: bytes, event: str, delivery: str) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"xmod-agent/{__version__}",
            "X-Xmod-Event": event,
            "X-Xmod-Delivery": delivery,
            "X-Xmod-Timestamp": str(int(time.time())),
            "Connection": "close",
        }
        if self._secret is not None:
            mac = hmac.digest(self._secret.read()[0].encode(), body, "sha256")
            headers["X-Xmod-Signature-256"] = f"sha256={mac.hex()}"
        return headers | _credentials(url.parts, "Authorization")


def _way(url: Url) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
    """The connection to make, what to ask of it, and the headers for a proxy."""
    parts = url.parts
    secure, host = parts.scheme == "https", parts.hostname or ""
    port = parts.port or (443 if secure else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    proxy = _proxy(parts.scheme, f"{host}:{port}")
    at, at_port = (host, port) if proxy is None else (proxy.hostname or "", proxy.port or 80)
    if not secure:
        plain = http.client.HTTPConnection(at, at_port, timeout=_PATIENCE)
        if proxy is None:
            return plain, target, {}
        return plain, f"http://{parts.netloc.rpartition('@')[2]}{target}", _credentials(proxy, "Proxy-Authorization")
    context = ssl.create_default_context()
    tunnel = http.client.HTTPSConnection(at, at_port, timeout=_PATIENCE, context=context)
    if proxy is not None:
        tunnel.set_tunnel(host, port, _credentials(proxy, "Proxy-Authorization"))
    return tunnel, target, {}


def _proxy(scheme: str, host: str) -> SplitResult | None:
    proxies = urllib.request.getproxies()
    named = proxies.get(scheme, "")
    if not named or urllib.request.proxy_bypass(host, proxies):
        return None
    return urlsplit(named if "://" in named else f"http://{named}")


def _credentials(parts: SplitResult, header: str) -> dict[str, str]:
    """What a URL says before its @, as a header."""
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {header: f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _answer(connection: http.client.HTTPConnection, ask: Callable[[], None], stop: Event) -> http.client.HTTPResponse:
    """What is answered. Raises TimeoutError once it took too long, or the agent stops.

    Nothing cuts short the search for a name or for an address that takes the connection: that is left behind, and asks
    nothing if it comes to an end.
    """
    answered: Future[http.client.HTTPResponse] = Future()
    over = Event()

    def work() -> None:
        try:
            connection.connect()
            if not over.is_set():
                ask()
                with connection.getresponse() as answer:  # of which only the head is of use
                    answered.set_result(answer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            answered.set_exception(error)
        except AttributeError:  # ssl's, of a connection that is cut while it is read
            if not over.is_set():
                raise
        finally:
            connection.close()

    threading.Thread(target=work, name="post", daemon=True).start()
    deadline = time.monotonic() + _LONGEST
    while not stop.is_set() and time.monotonic() < deadline:
        if wait((answered,), _STEP).done:
            return answered.result()
    over.set()
    with contextlib.suppress(OSError, AttributeError):  # it has no socket yet, or none any more
        connection.sock.shutdown(socket.SHUT_RDWR)
    raise TimeoutError


def _declined(url: Url, answer: http.client.HTTPResponse) -> NotSent:
    code = answer.status
    after = answer.headers.get("Retry-After", "")
    wait = min(_AFTER, float(after)) if after.isdecimal() else 0.0
    if 300 <= code < 400:
        return NotSent(f"{url.shown}: answers {code}, a redirect, which is not followed; set the URL that it leads to")
    return NotSent(f"{url.shown}: answers {code}", refused=code < 500 and code not in _LATER, after=wait)


def _words(error: Exception) -> str:
    """What happened, without what was sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}; SSL_CERT_FILE can name another CA"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return f"no HTTP answer ({type(error).__name__})"
