"""The one exception of this package."""
from __future__ import annotations


class TholeError(Exception):
    """Something was refused. `code` and `reason` are for programs and stay the same over versions; `message` is a
    sentence for people that says what to do."""

    def __init__(self, code: str, reason: str, message: str, os_errno: int = 0) -> None:
        super().__init__(f"{reason}: {message}")
        self.code = code  # such as "THOLE_NOT_FOUND"
        self.reason = reason  # such as "KeyMissing": docs/reference/reasons.md
        self.message = message
        self.os_errno = os_errno

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return TholeError, (self.code, self.reason, self.message, self.os_errno)


def bad_item(message: str) -> TholeError:
    """A tree or a leaf that cannot be saved or restored as it is."""
    return TholeError("THOLE_INVALID", "ItemBad", message)
