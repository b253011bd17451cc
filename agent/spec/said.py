"""What a file's documents say, by name: told of the text alone, so that another agent version or policy reads it the same.

It is compared with what the same document said in other commits: layout, order and comments do not count, everything
else does. What is encrypted is compared as it stands there.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from agent.contracts import Digest, ServiceName
from agent.spec.document import API_VERSION, KIND
from agent.spec.encrypted import alike
from agent.spec.reading import Document, read

_WHERE_AND_WHEN = frozenset({"hosts", "overrides", "dependsOn"})
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class Said(NamedTuple):
    """What the document of one name says. `spec`: the digest of its body; `words`: of all of it."""

    spec: Digest
    words: Digest


def said(content: bytes) -> Mapping[ServiceName, Said]:
    """What a file says; nothing if it cannot be parsed."""
    reading = read(content)
    return {} if reading.problems else said_by(reading.documents)


def said_by(documents: Iterable[Document]) -> Mapping[ServiceName, Said]:
    """What these documents say; of two with one name (for two hosts), what both say."""
    found: dict[ServiceName, Said] = {}
    for document in documents:
        data = document.data
        if not isinstance(data, dict) or (data.get("apiVersion"), data.get("kind")) != (API_VERSION, KIND):
            continue
        metadata = data.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if isinstance(name, str) and name:
            body = data.get("spec")
            own = Said(spec_digest(name, body if isinstance(body, dict) else {}), _hash(_CANONICAL.encode(data)))
            before = found.get(ServiceName(name))
            found[ServiceName(name)] = own if before is None else Said(own.spec, _hash(before.words + own.words))
    return found


def spec_digest(name: str, body: Mapping[str, Any]) -> Digest:
    """The digest of a spec as its user wrote it, but for where and when it is to run."""
    if not _WHERE_AND_WHEN.isdisjoint(body):
        body = {key: value for key, value in body.items() if key not in _WHERE_AND_WHEN}
    return _hash(alike(_CANONICAL.encode({"name": name, "spec": body})))


def _hash(text: str) -> Digest:
    return Digest(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
