"""`POST /webhook`: a git server says that something was pushed, and the source is read at once, as `sync` does.

The sender proves that it knows a secret: GitHub, Gitea and Forgejo by an HMAC over the body, GitLab by its signing token or
its plain one. The proof is made over the body as it streams by; of the body only a first piece is kept, to see which
branch it is of. Without a proof, or with a wrong token, nothing is read at all. A request can do no more than kick, so a
replay is harmless; many within a second are one kick. It has no Host check: it comes through proxies, and the secret guards it.
"""

import asyncio
import base64
import binascii
import hmac
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from agent.surface.http import Receive, Scope, Send, answer
from agent.surface.secret_file import NoSecret, SecretFile

logger = logging.getLogger("xmod.webhook")

PATH = "/webhook"
_LARGEST = 26 * 1024 * 1024  # bytes of a body; GitHub sends up to 25 MiB
_KEPT = 1024 * 1024  # bytes of a body that are looked into
_SPACING = 1.0  # seconds between two kicks
_QUIET = 60.0  # seconds between two log lines on refused requests
_EVENTS = ("x-github-event", "x-gitlab-event", "x-gitea-event", "x-forgejo-event", "x-gogs-event")
_HEX = ("x-hub-signature-256", "x-gitea-signature", "x-forgejo-signature")
_TOKEN, _STANDARD = "x-gitlab-token", "webhook-signature"
_SIGNING = "whsec_"  # how GitLab's signing tokens begin; base64 follows


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request shows to prove that its sender knows one of our secrets.

    `known`: it named one. `macs`: sums that grow with the body, each with the values that it may come to.
    """

    known: bool
    macs: Sequence[tuple[hmac.HMAC, Sequence[bytes]]]

    @property
    def hopeless(self) -> bool:
        """No body can make it good."""
        return not self.known and not self.macs

    def add(self, piece: bytes) -> None:
        """More of the body."""
        for mac, _ in self.macs:
            mac.update(piece)

    def holds(self) -> bool:
        """Whether it is proven, now that the body is whole."""
        return self.known or any(hmac.compare_digest(mac.digest(), sum_) for mac, sums in self.macs for sum_ in sums)


def claim(headers: Mapping[str, str], secrets: Iterable[str]) -> Claim:
    """What these headers (names in lower case) claim; hopeless if they show nothing."""
    secrets = tuple(secrets)
    token = headers.get(_TOKEN, "").encode("latin-1")  # the bytes as they came
    known = any(hmac.compare_digest(token, secret.encode()) for secret in secrets)
    sums = [found for name in _HEX if (found := _unhexed(headers.get(name, "")))]
    macs = [(hmac.new(secret.encode(), digestmod="sha256"), sums) for secret in secrets if sums]
    standard = [
        found
        for word in headers.get(_STANDARD, "").split()
        if word.startswith("v1,") and (found := _from_base64(word.removeprefix("v1,")))
    ]
    begin = f"{headers.get('webhook-id', '')}.{headers.get('webhook-timestamp', '')}.".encode("latin-1")
    keys = [_from_base64(secret.removeprefix(_SIGNING)) for secret in secrets if secret.startswith(_SIGNING)]
    macs += [(hmac.new(key, begin, "sha256"), standard) for key in keys if key and standard]
    return Claim(known, macs)


def ignored(headers: Mapping[str, str], body: bytes | None, follows: str) -> str:
    """Why a push is none that we wait for, "" if it may be one. `follows`: our branch or tag, "" if that is not known."""
    events = [event for name in _EVENTS if (event := headers.get(name, "").lower())]
    if events and not any("push" in event or event == "system hook" for event in events):
        return f"{events[0]} is no push"
    ref = _payload(body).get("ref")
    if not follows or not isinstance(ref, str) or not ref.startswith("refs/"):
        return ""
    ours = {follows, f"refs/heads/{follows}", f"refs/tags/{follows}"}
    return "" if ref in ours else f"{ref[:200]} is not {follows}, which is followed here"


class Webhook:
    """The endpoint, as an ASGI app. `kick` returns at once; `count` hears how each request ended."""

    def __init__(
        self, *, secret: SecretFile, follows: str, kick: Callable[[], None], count: Callable[[str], None]
    ) -> None:
        self._secret = secret
        self._follows = follows
        self._kick = kick
        self._count = count
        self._kicked_at = float("-inf")
        self._coming: asyncio.TimerHandle | None = None
        self._said_at = float("-inf")
        self._trouble = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope.get("headers", ())}
        if scope.get("method") != "POST":
            await answer(send, 405, "only POST is answered here", close=True)
            return
        result, code, sentence = await self._judged(headers, receive)
        self._count(result)
        await answer(send, code, sentence, close=code >= 400)

    async def _judged(self, headers: Mapping[str, str], receive: Receive) -> tuple[str, int, str]:
        try:
            secrets = self._secret.read()
        except NoSecret as error:
            return self._unavailable(str(error))
        self._trouble = ""
        shown = claim(headers, secrets)
        if shown.hopeless:
            return self._refused()
        if _number(headers.get("content-length", "")) > _LARGEST:
            return _TOO_LARGE
        size, kept = 0, bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return "broken_off", 400, "the request was broken off"
            piece = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(piece)
            if size > _LARGEST:
                return _TOO_LARGE
            shown.add(piece)
            if size <= _KEPT:
                kept += piece
        if not shown.holds():
            return self._refused()
        return self._proven(headers, bytes(kept) if size <= _KEPT else None)

    def _proven(self, headers: Mapping[str, str], body: bytes | None) -> tuple[str, int, str]:
        if headers.get("x-github-event") == "ping":
            return "ping", 200, "pong"
        if why := ignored(headers, body, self._follows):
            return "ignored", 202, f"ignored: {why}"
        self._soon()
        return "accepted", 202, "the source is read now"

    def _soon(self) -> None:
        """Kick now, or with all others of this second at its end."""
        loop = asyncio.get_running_loop()
        wait = self._kicked_at + _SPACING - loop.time()
        if wait <= 0:
            self._kick_now(loop)
        elif self._coming is None:
            self._coming = loop.call_later(wait, self._kick_now, loop)

    def _kick_now(self, loop: asyncio.AbstractEventLoop) -> None:
        self._coming, self._kicked_at = None, loop.time()
        self._kick()
        logger.info("a webhook kicks the source")

    def _refused(self) -> tuple[str, int, str]:
        now = asyncio.get_running_loop().time()
        if now - self._said_at >= _QUIET:
            self._said_at = now
            logger.warning("a webhook request without a right signature was refused; more in a minute are only counted")
        return "refused", 401, "no"

    def _unavailable(self, error: str) -> tuple[str, int, str]:
        if error != self._trouble:
            logger.error("webhook requests cannot be checked", extra={"error": error})
        self._trouble = error
        return "unavailable", 503, "not available"


_TOO_LARGE = ("too_large", 413, f"a body has at most {_LARGEST} bytes")


def _payload(body: bytes | None) -> Mapping[str, Any]:
    """The JSON object in a body, {} if there is none."""
    try:
        text = (body or b"").decode()
        if text.startswith("payload="):  # GitHub's other content type: a form
            text = parse_qs(text, max_num_fields=10)["payload"][0]
        found = json.loads(text)
    except (ValueError, KeyError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _unhexed(text: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("sha256="))
    except ValueError:
        return b""


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
