"""What a gang that cannot be is answered with."""
from __future__ import annotations

from typing import Any, Dict, Tuple

from thole.errors import TholeError


class GangError(TholeError):
    """The gang does not fit: our reason, a sentence, and the largest vGPU that would still fit anywhere."""

    def __init__(self, code: str, reason: str, message: str, largest_hole_mib: int = 0) -> None:
        super().__init__(code, reason, message)
        self.largest_hole_mib = largest_hole_mib

    def __reduce__(self) -> Tuple[Any, ...]:
        return GangError, (self.code, self.reason, self.message, self.largest_hole_mib)


def as_answer(error: TholeError) -> Dict[str, Any]:
    """An error as an actor answers it: plain data, so that no other side has to be able to unpickle it."""
    return {"error": {"code": error.code, "reason": error.reason, "message": error.message,
                      "largest_hole_mib": getattr(error, "largest_hole_mib", 0)}}


def raise_answer(answer: Dict[str, Any]) -> Dict[str, Any]:
    """The answer, or what it says went wrong."""
    error = answer.get("error")
    if error:
        raise GangError(error["code"], error["reason"], error["message"], error.get("largest_hole_mib", 0))
    return answer


def refused(reason: str, message: str) -> TholeError:
    return TholeError("THOLE_INVALID", reason, message)
