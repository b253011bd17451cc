"""What sops wrote: recognised, held to age alone, and its plaintext laid over the file that its user sees.

* Recognised by a top-level `sops` mapping with a `mac`. Structure and positions stay those of the encrypted file; only
  values that were encrypted are taken from the plaintext.
* Only age: keys of other kinds would make sops call whatever address the file names, so such a file is refused before
  anything opens it. So is what sops never writes (tags, anchors, aliases): its parser might find keys there that ours
  does not.
* What is secret (env values, an image's password) leaves here apart from the document, in which a stand-in that nobody
  can write takes its place: it meets no check, digest or message. Messages quote no other decrypted value either.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from agent.spec.complaint import Fault
from agent.spec.reading import Document, Path, read

_SEALED = "ENC["
_STAND_IN = "\0"  # the reader lets none of these in
_NUMBERED = re.compile(r"(\\u0000)\d+")
_ITS_OWN = frozenset(
    {
        "age",
        "encrypted_comment_regex",
        "encrypted_regex",
        "encrypted_suffix",
        "lastmodified",
        "mac",
        "unencrypted_comment_regex",
        "unencrypted_regex",
        "unencrypted_suffix",
        "version",
    }
)
_NOT_ALLOWED = "what it decrypts to is not allowed here, and not shown"
_SHORT = 4


class Locked(Exception):
    """Why a file cannot be decrypted now. `passing`: it may be possible later, though the file stays as it is."""

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


class Decrypter(Protocol):
    """Decrypts what sops wrote. Thread-safe."""

    def begin(self, content: bytes) -> None:
        """It will be asked for soon."""

    def plain(self, content: bytes) -> bytes:
        """The file's plaintext. Raises Locked."""
        ...


class NoDecrypter:
    """Has no keys."""

    def begin(self, content: bytes) -> None:
        """Nothing can be begun."""

    def plain(self, content: bytes) -> bytes:  # noqa: ARG002 - see Decrypter
        """Raises Locked."""
        raise Locked("it is encrypted, and nothing here decrypts", passing=False)


NO_DECRYPTER: Decrypter = NoDecrypter()


def is_encrypted(data: Any) -> bool:
    """Sops wrote this document."""
    sops = data.get("sops") if isinstance(data, dict) else None
    return isinstance(sops, dict) and "mac" in sops


def refusals(documents: Sequence[Document]) -> Iterator[tuple[Document, Fault]]:
    """Why an encrypted file is not to be given to sops."""
    for document in documents:
        sops = document.data.get("sops", {}) if isinstance(document.data, dict) else None
        if not isinstance(sops, dict):
            yield document, Fault(("sops",), "must be a mapping that sops wrote; encrypt the file anew")
            continue
        for key, value in sops.items():
            path = ("sops", key)
            if key == "mac_only_encrypted" and value:
                message = (
                    "leaves what is not encrypted open to change, and so to whom the secrets are given; encrypt without"
                )
                yield document, Fault(path, message, key=True)
            elif key not in _ITS_OWN and value:
                yield document, Fault(path, "only age keys are used here; encrypt the file for age alone", key=True)


def laid_over(documents: Sequence[Document], plain: bytes) -> tuple[Document, ...]:
    """The documents of an encrypted file, decrypted. Raises Locked if the plaintext is not of this file."""
    reading = read(plain)
    if reading.problems or len(reading.documents) != len(documents):
        raise _unlike()
    return tuple(_opened(sealed, found.data) for sealed, found in zip(documents, reading.documents, strict=True))


def stands_in(value: str | None) -> bool:
    """It stands for a secret."""
    return value is not None and value.startswith(_STAND_IN)


def alike(text: str) -> str:
    """JSON in which all stand-ins are the same: whether others come or go is no change of a spec."""
    return _NUMBERED.sub(r"\1", text) if "\\u0000" in text else text


def discreet(fault: Fault, hidden: Mapping[Path, Any]) -> Fault:
    """The same without any value that was encrypted."""
    message = fault.message
    if fault.path in hidden and not fault.key:
        message = message.partition(", not ")[0] if message.startswith("must be ") else _NOT_ALLOWED
    if any(_quoted(value, message) for value in hidden.values()):
        message = _NOT_ALLOWED
    return fault if message == fault.message else fault._replace(message=message)


def _opened(sealed: Document, plain: Any) -> Document:
    hidden: dict[Path, Any] = {}
    secrets: dict[str, str] = {}

    def over(cipher: Any, clear: Any, path: Path) -> Any:
        if isinstance(cipher, dict):
            if not isinstance(clear, dict) or clear.keys() != cipher.keys():
                raise _unlike()
            return {key: over(value, clear[key], (*path, key)) for key, value in cipher.items()}
        if isinstance(cipher, list):
            if not isinstance(clear, list) or len(clear) != len(cipher):
                raise _unlike()
            return [over(value, clear[index], (*path, index)) for index, value in enumerate(cipher)]
        if not isinstance(cipher, str) or not cipher.startswith(_SEALED) or cipher == clear:
            return cipher
        hidden[path] = clear
        if not _secret(path) or not isinstance(clear, str):
            return clear
        mark = f"{_STAND_IN}{len(secrets)}"
        secrets[mark] = clear
        return mark

    data = {key: value for key, value in sealed.data.items() if key != "sops"}
    return replace(sealed, data=over(data, plain, ()), hidden=hidden, secrets=secrets)


def _secret(path: Path) -> bool:
    of_env = len(path) > 2 and path[-3] == "env" and isinstance(path[-2], int) and path[-1] == "value"
    return of_env or path[-2:] == ("imageCredentials", "password")


def _quoted(value: Any, message: str) -> bool:
    """A short value counts only as a word of its own."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if 0 < len(text) < _SHORT:
        return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", message) is not None
    return bool(text) and text in message


def _unlike() -> Locked:
    return Locked("what sops makes of it is not this file without its encryption; encrypt it anew", passing=False)
