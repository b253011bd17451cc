"""What an unquoted scalar means: the YAML 1.2 core schema (`no` and `22:22` are text, `0755` is 755, `1e3` a number)."""

import re
from typing import Any

CORE = "tag:yaml.org,2002:"
TEXT_TAGS = ("!", CORE + "str")
KINDS_BY_TAG: dict[str, tuple[type, ...]] = {
    CORE + "int": (int,),
    CORE + "float": (float, int),
    CORE + "bool": (bool,),
    CORE + "null": (type(None),),
}

_MAYBE_NOT_TEXT = frozenset("-+.0123456789nNtTfF~")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("null", "Null", "NULL", "~", "")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z"
)
_LONGEST_NUMBER = 64  # characters; int() is quadratic in them


def plain(text: str) -> Any:
    """What an unquoted scalar means."""
    if text and text[0] not in _MAYBE_NOT_TEXT:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _LONGEST_NUMBER:
        return text
    if _INT.match(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.match(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
