"""What the HTTP app needs of the service behind it; `nearline.loop` implements it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nearline.features import RowEncoder
from nearline.glmix import Scorer
from nearline.serve._json_answer import AnswerWriter
from nearline.serve._messages import Published


@dataclass(frozen=True, slots=True)
class Live:
    """The version that answers: its scorer, and the encoder of its rows. They are swapped together.

    Making one compiles what its requests need, so that no request waits for it. Where scores are `recalibrated`, what
    is answered is recorded beside them.
    """

    scorer: Scorer
    rows: RowEncoder
    recalibrated: bool = False
    writer: AnswerWriter = field(init=False)

    def __post_init__(self) -> None:
        name = "probability" if self.scorer.model.link == "logit" else "prediction"
        object.__setattr__(self, "writer", AnswerWriter(name))
        self.scorer.warm()
        self.rows.warm()
        self.writer.write("", 0, np.zeros(1), [1], self.scorer.version)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, and all open ones together, may ask for; beyond it the answer is 413, 422 or 429."""

    body_bytes: int = 8 << 20
    rows: int = 10_000
    open_requests: int = 1024
    draws: int = 1024
    explained_rows: int = 100
    ahead_seconds: float = 86_400.0
    followers: int = 32


class Recording(Protocol):
    """Where rows are recorded; `nearline.store.Recorder` is one."""

    @property
    def waiting(self) -> int:
        """Rows that are not yet durable."""

    @property
    def max_rows(self) -> int:
        """Rows that may wait; a request that has more is taken when none do."""

    def submit(
        self, n: int, columns: Mapping[str, Any], done: Callable[[BaseException | None], None] | None = None
    ) -> int:
        """Take n rows; the position of the first. `done` is called in any thread once they are durable, or with the
        error. Raises Overloaded when too many wait.
        """


class Service(Protocol):
    """A running model with its ledger. Every method is quick, safe from any thread, and never waits for the disk,
    but `publish` and `rollback`, which the app calls in a thread of their own.
    """

    @property
    def live(self) -> Live:
        """The version that answers."""

    @property
    def predictions(self) -> Recording:
        """Where predictions are recorded."""

    @property
    def outcomes(self) -> Recording:
        """Where outcomes are recorded."""

    @property
    def limits(self) -> Limits:
        """What requests may ask for."""

    @property
    def unready(self) -> str | None:
        """Why no predictions can be served now; None when they can."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def seed(self) -> int:
        """Seed of a Thompson draw whose request brings none; it is recorded with the prediction."""

    def ids(self, first: int, n: int) -> list[str]:
        """Ids of n predictions from a position on."""

    def resolve(self, ids: Sequence[str]) -> tuple[NDArray[Any], Mapping[int, str]]:
        """Position of every prediction id, −1 where it is refused, and the reasons by place in `ids`."""

    def status(self) -> dict[str, Any]:
        """What the dashboard shows, but the traffic, which the app counts."""

    def versions(self) -> dict[str, Any]:
        """The live version, those that can be published, and their history."""

    def publish(self, version: str, why: str, who: str, force: bool, halted: Callable[[], bool]) -> Published:
        """Make a version the live one, if the gate lets it or it is forced; it may be judged for as long as not
        `halted`. Raises ConfigError when there is none of that name, Refused where the gate refuses it, and Conflict
        where something else went live meanwhile.
        """

    def rollback(self, to: str | None, why: str, who: str) -> str:
        """Return to a version, or to the one before the live one; the name of the live one then."""
