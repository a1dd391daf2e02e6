"""The parts of a state directory, opened together by the one process that writes them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearline.loop._examples import SCHEMA as EXAMPLES
from nearline.loop._settings import Recording
from nearline.store import OUTCOMES, LmdbStateStore, Log, Runs, StateStore

PARTS = ("predictions", "outcomes", "examples")


@dataclass(frozen=True, slots=True)
class Storage:
    """Ledger, committed state and prediction ids of one state directory."""

    predictions: Log
    outcomes: Log
    examples: Log
    state: StateStore
    runs: Runs

    @property
    def logs(self) -> tuple[Log, Log, Log]:
        """Predictions, outcomes and examples."""
        return self.predictions, self.outcomes, self.examples

    @classmethod
    def open(cls, folder: Path, predictions: Any, recording: Recording) -> Storage:
        """Open for writing; `predictions` is the schema of the predictions log.

        Raises
        ------
        StateError
            Another process has it open, or a part is damaged.
        """
        opened: list[Any] = []
        try:
            for part, schema in zip(PARTS, (predictions, OUTCOMES, EXAMPLES)):
                opened.append(
                    Log.open(
                        folder / "ledger" / part, schema, segment_rows=recording.segment_rows,
                        memory_bytes=recording.memory_mb << 20,
                    )
                )  # fmt: skip
            state = LmdbStateStore(folder / "live")
            opened.append(state)
            predicted, happened, learned = opened[:3]
            return cls(predicted, happened, learned, state, Runs(folder / "ledger" / "runs.jsonl"))
        except BaseException:
            for part in opened:
                part.close()
            raise

    def close(self) -> None:
        """Make everything durable and give the directory back."""
        with ExitStack() as parts:
            for part in (self.state, *self.logs):
                parts.callback(part.close)
