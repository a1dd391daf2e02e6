"""Every error nearline raises on purpose, in one tree.

NearlineError
├── DataError         a row or column of the input cannot be used (also a ValueError)
├── ConfigError       a setting does not make sense (also a ValueError)
├── StateError        something on disk is missing, truncated, altered or of another format
│   └── Conflict      somebody else changed it first
├── Refused           the publish gate does not let a version through
└── Overloaded        more waits to be written than may; come back later

NearlineWarning       something works, but hardly as meant (a UserWarning)
"""

from __future__ import annotations

from collections.abc import Sequence


class NearlineError(Exception):
    """Base of every error that nearline raises on purpose."""


class DataError(NearlineError, ValueError):
    """A row or column of the input cannot be used; says where, why, and what to do about it.

    Examples
    --------
    >>> raise DataError("label is NaN", column="liked", row=3, fix="drop the row or fill the label")
    Traceback (most recent call last):
        ...
    nearline._errors.DataError: column 'liked', row 3: label is NaN; drop the row or fill the label
    """

    def __init__(self, problem: str, *, column: str | None = None, row: int | None = None, fix: str = "") -> None:
        self.problem, self.column, self.row, self.fix = problem, column, row, fix
        where = ", ".join(
            part for part in (f"column {column!r}" if column else "", f"row {row}" if row is not None else "") if part
        )
        super().__init__(f"{where + ': ' if where else ''}{problem}{'; ' + fix if fix else ''}")


class ConfigError(NearlineError, ValueError):
    """A setting does not make sense; the message names it and the fix."""


class StateError(NearlineError):
    """Something on disk is missing, truncated, altered, or written by another format version."""


class Conflict(StateError):  # noqa: N818 - a state, as in the field's 409
    """Somebody else changed it first; look at what it is now and decide anew."""


class Refused(NearlineError):  # noqa: N818 - a verdict
    """The publish gate does not let a version through; `reasons` has a sentence for every check that failed.

    >>> raise Refused("2.0.0", ["size: 3.0 MB, live 1.0 MB; 2.0 MB is allowed"])
    Traceback (most recent call last):
        ...
    nearline._errors.Refused: the gate refuses version 2.0.0: size: 3.0 MB, live 1.0 MB; 2.0 MB is allowed
    """

    def __init__(self, version: str, reasons: Sequence[str]) -> None:
        self.version, self.reasons = version, tuple(reasons)
        super().__init__(f"the gate refuses version {version}: {'; '.join(reasons)}")


class Overloaded(NearlineError):  # noqa: N818 - a state, as in the field's 429
    """More rows wait to be written than may; come back after `retry_after` seconds."""

    def __init__(self, waiting: int, most: int, retry_after: float) -> None:
        self.waiting, self.most, self.retry_after = waiting, most, retry_after
        super().__init__(f"{waiting} rows wait to be written, at most {most} may; retry after {retry_after:.3g} s")


class NearlineWarning(UserWarning):
    """Something works, but hardly as meant; the message says what to look at."""
