"""What a request is told when it is refused: a status, a type, a message and the field, as JSON.

{"error": {"type": "invalid", "message": "Expected `str`, got `int`", "field": "rows[3].country"}}
"""

from __future__ import annotations

import logging
import math
import re

import msgspec

from nearline._errors import ConfigError, Conflict, DataError, Overloaded, Refused, StateError

_logger = logging.getLogger("nearline")
_PLACE = re.compile(r"^(.*?)(?: - at `\$\.?(.*?)(?:`|$))?$", re.DOTALL)

STATUSES = {
    "malformed": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "refused": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "invalid": 422,
    "overloaded": 429,
    "internal": 500,
    "unavailable": 503,
}
"""Status by type of error."""


class Error(msgspec.Struct):
    """What went wrong: its type, a message for people, and the field of the request, if it is one."""

    type: str
    message: str
    field: str | None = None


class ErrorResponse(msgspec.Struct):
    """Body of every answer that is not a success."""

    error: Error


class Problem(Exception):  # noqa: N818 - what it is to the client
    """A request that is refused."""

    def __init__(
        self, kind: str, message: str, field: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.headers = STATUSES[kind], headers or {}
        self.error = Error(kind, message, field)

    def body(self) -> bytes:
        """The answer's JSON."""
        return _encode(ErrorResponse(self.error))


_encode = msgspec.json.Encoder().encode


def busy(message: str, seconds: float) -> Problem:
    """The service has as much to do as it may; `seconds` until it is worth trying again."""
    wait = max(1, math.ceil(min(seconds, 60.0)))
    return Problem("overloaded", message, headers={"Retry-After": str(wait)})


def problem_of(error: BaseException, rows: str = "rows") -> Problem:
    """What an error means to the client; one that is nobody's on purpose is logged and not told.

    Parameters
    ----------
    rows
        Name of the request's list, for errors that name a row.
    """
    match error:
        case Problem():
            return error
        case msgspec.ValidationError():
            message, place = _PLACE.fullmatch(str(error)).groups()  # type: ignore[union-attr]
            return Problem("invalid", message, place or _unknown_field(message))
        case msgspec.DecodeError() | RecursionError() | UnicodeDecodeError():
            return Problem("malformed", f"the body is not what its Content-Type says: {error}")
        case DataError():
            message = f"{error.problem}; {error.fix}" if error.fix else error.problem
            return Problem("invalid", message, _field(error, rows))
        case ConfigError():
            return Problem("invalid", str(error))
        case Overloaded():
            return busy(str(error), error.retry_after)
        case Refused():
            return Problem("refused", f'{error}; to publish it all the same, send "force": true', "force")
        case Conflict():
            return Problem("conflict", str(error))
        case StateError():
            _logger.error("a request failed: %s", error)
            return Problem("unavailable", str(error))
    _logger.error("a request failed", exc_info=error)
    return Problem("internal", "an unexpected error; the server's log has it")


def _field(error: DataError, rows: str) -> str | None:
    if error.row is None:
        return error.column
    return f"{rows}[{error.row}]" + (f".{error.column}" if error.column else "")


def _unknown_field(message: str) -> str | None:
    named = re.search(r"(?:unknown|required) field `(.*?)`", message)
    return named[1] if named else None
