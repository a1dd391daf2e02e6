"""What the publish gate says of a candidate: every check with its numbers and a sentence."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a candidate.

    Attributes
    ----------
    name
        "examples", "loss", "calibration", "calibration_error", "negative_flips", "slices", "latency" or "size".
    value
        What was measured.
    interval
        Its ends at the gate's confidence; None where it is known exactly or not estimated.
    limits
        The range that is allowed, with infinite ends where it is open.
    passed
        Whether it lets the candidate through.
    sentence
        What was found, in words and numbers.
    """

    name: str
    value: float
    interval: Range | None
    limits: Range
    passed: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Slice:
    """How one part of the examples fares under the candidate.

    Attributes
    ----------
    key, value, examples
        What the examples have in common, and how many they are.
    change, interval
        Relative change of the mean loss, candidate against live: above 0 is worse.
    flips, flips_interval
        Share right before and wrong now, with its Wilson interval; NaN where the link knows no flips.
    p
        p-value of "not worse by more than allowed", adjusted for the number of slices (Holm).
    worse
        Whether that is refuted.
    """

    key: str
    value: str
    examples: int
    change: float
    interval: Range
    flips: float
    flips_interval: Range
    p: float
    worse: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a candidate may be published, and why.

    Attributes
    ----------
    passed
        Whether every check passed.
    checks
        In the order in which they were made.
    slices
        Every slice that was judged, the worst first.

    Examples
    --------
    >>> size = Check("size", 3e6, None, (0.0, 2e6), False, "3.0 MB are more than twice the live 1.0 MB")
    >>> verdict = Verdict.of([size])
    >>> verdict.passed, verdict.reasons
    (False, ('size: 3.0 MB are more than twice the live 1.0 MB',))
    """

    passed: bool
    checks: tuple[Check, ...]
    slices: tuple[Slice, ...] = ()

    @classmethod
    def of(cls, checks: list[Check], slices: tuple[Slice, ...] = ()) -> Verdict:
        """The verdict that follows from checks."""
        return cls(all(check.passed for check in checks), tuple(checks), slices)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the candidate was refused, one sentence per check that failed."""
        return tuple(f"{check.name.replace('_', ' ')}: {check.sentence}" for check in self.checks if not check.passed)

    def summary(self) -> dict[str, Any]:
        """All of it, for JSON: NaN and infinities are None."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
