"""What a version is called, what is recorded of it, and what happened to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from nearline._errors import DataError

_FORM = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", re.ASCII)
Action: TypeAlias = Literal["register", "publish", "rollback", "prune"]


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """``global.batch.nearline``: the fit of the whole model, the re-fit of its random effects, what was learned since.

    Parameters
    ----------
    whole, batch
        Numbers of the fits, from 0.
    nearline
        Position in the log of examples up to which the speed layer has learned.

    Examples
    --------
    >>> Version.parse("1.4.900") < Version(1, 4, 1000) < Version(1, 10, 0)
    True
    >>> str(Version(1, 4, 900)), str(Version(1, 4, 900).base)
    ('1.4.900', '1.4.0')
    """

    whole: int
    batch: int = 0
    nearline: int = 0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**63:
                raise DataError(f"Version({name}={number!r}) must be a whole number from 0 on")

    @classmethod
    def parse(cls, text: str | Version) -> Version:
        """Inverse of `str`.

        Raises
        ------
        DataError
            When the text has another form.
        """
        if isinstance(text, Version):
            return text
        found = _FORM.fullmatch(text)
        if found is None:
            raise DataError(f"{text!r} is no version", fix="write global.batch.nearline, such as 1.4.900")
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        return f"{self.whole}.{self.batch}.{self.nearline}"

    @property
    def base(self) -> Version:
        """The fit that the speed layer started from."""
        return Version(self.whole, self.batch)

    def next_whole(self) -> Version:
        """The version of a new fit of the whole model."""
        return Version(self.whole + 1)

    def next_batch(self) -> Version:
        """The version of a new fit of the random effects."""
        return Version(self.whole, self.batch + 1)

    def at(self, position: int) -> Version:
        """The version that has learned up to a position."""
        return Version(self.whole, self.batch, position)


@dataclass(frozen=True, slots=True)
class Record:
    """What the registry knows of a version; it never changes.

    Attributes
    ----------
    created
        Seconds since the epoch.
    who, why
        Who registered it and for what reason.
    parent
        The version that it was made from.
    metrics, positions
        How good it was found, and up to where it has learned, each by name.
    config
        Hash of the configuration that it was made with.
    folder
        Where it is saved.
    checksum
        SHA-256 of its manifest, which holds the checksums of its other files.
    """

    version: Version
    created: float
    who: str
    why: str
    parent: Version | None
    metrics: Mapping[str, float]
    positions: Mapping[str, int]
    config: str
    folder: Path
    checksum: str


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the history: what was done to a version, when, by whom and why.

    Attributes
    ----------
    number
        1, 2, 3 … in the order of the history.
    previous
        The version that was live before a publish or rollback.
    """

    number: int
    time: float
    action: Action
    version: Version
    previous: Version | None
    who: str
    why: str
