"""The drawn tree of what can go wrong in a world.

    XmodError                 everything we raise on purpose; `reason` is a CamelCase word from a closed set
    ├── Transient             could not look or act; nothing is known. Try again after `delay`
    ├── Permanent             the world refuses this as it is
    │   └── Conflict          something that is not ours stands in our place
    └── Cancelled             raised into a task that nobody wants any more

A shimlet raises nothing else: what else comes out of one is a bug, and is treated as such.
"""


class XmodError(Exception):
    """A refusal with a reason for machines and a message for people."""

    reason = "Error"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class Transient(XmodError):
    """Could not look or act; nothing is known. `delay`: seconds until a try makes sense, if the world gave them."""

    reason = "Unreachable"

    def __init__(self, message: str, *, reason: str | None = None, delay: float | None = None) -> None:
        super().__init__(message, reason=reason)
        self.delay = delay


class Permanent(XmodError):
    """The world refuses this as it is; trying the same again will not help."""

    reason = "Refused"


class Conflict(Permanent):
    """Something that does not carry our mark stands in our place; it is reported, never replaced."""

    reason = "Conflict"


class Cancelled(XmodError):
    """Nobody wants this task's result any more."""

    reason = "Cancelled"
