"""What versions are called: `global.batch.nearline`, and when a new line of them begins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from nearline.store import Version


@dataclass(frozen=True, slots=True)
class Line:
    """Versions that learn on from one published base; all share its global number and one batch number.

    Attributes
    ----------
    base
        The version whose model the line began with.
    whole, batch
        Global and batch number of what the line learns.
    start
        Position of the examples log at which the line began.

    Examples
    --------
    A line is named like its base until it has learned something:

    >>> line = Line.after(Version.parse("1.0.0"), used=[], start=0)
    >>> str(line.version(0)), str(line.version(250))
    ('1.0.0', '1.0.250')

    Going back begins another line, so that two models never share a name:

    >>> back = Line.after(Version.parse("1.0.250"), used=[(1, 0)], start=900)
    >>> str(back.version(900)), str(back.version(910))
    ('1.0.250', '1.1.910')
    """

    base: Version
    whole: int
    batch: int
    start: int

    @classmethod
    def after(cls, base: Version, used: Iterable[tuple[int, int]], start: int) -> Self:
        """The line that begins where `base` is published: its own if it is new, else one with the next batch number.

        Parameters
        ----------
        used
            (global, batch) of every line that ever began, and of every version but `base` that is not a fresh one.
        start
            End of the examples log now.
        """
        taken = set(used)
        fresh = base.nearline == 0 and (base.whole, base.batch) not in taken
        if fresh:
            return cls(base, base.whole, base.batch, start)
        batch = 1 + max([base.batch, *(batch for whole, batch in taken if whole == base.whole)])
        return cls(base, base.whole, batch, start)

    def version(self, examples: int) -> Version:
        """The version that has learned the examples log up to a position."""
        return self.base if examples == self.start else Version(self.whole, self.batch, examples)

    def served(self, name: str | None) -> bool:
        """Whether a version of this name is of the line.

        >>> line = Line.after(Version.parse("1.0.250"), used=[(1, 0)], start=900)
        >>> [line.served(name) for name in ("1.0.250", "1.0.251", "1.1.901", None)]
        [True, False, True, False]
        """
        return name is not None and (name == str(self.base) or name.startswith(f"{self.whole}.{self.batch}."))

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a store."""
        return {"base": str(self.base), "whole": self.whole, "batch": self.batch, "start": self.start}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Self:
        """What `to_dict` wrote."""
        return cls(Version.parse(found["base"]), int(found["whole"]), int(found["batch"]), int(found["start"]))
