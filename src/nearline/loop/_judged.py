"""What does the gate say of a registered version beside the live one? Asked of the ledger of a state directory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from nearline.gate import Verdict
from nearline.glmix import Safety
from nearline.loop._candidate import Cutoff, judge, judge_held_out
from nearline.loop._cost import latencies, size
from nearline.loop._events import predictions_of
from nearline.loop._examples import SCHEMA as EXAMPLES
from nearline.loop._held import Span
from nearline.loop._trial import Cost, Gating
from nearline.loop._versions import model_of
from nearline.store import Log, Registry, Version

REQUESTS = 2_000
"""So many of the newest predictions are scored again to measure what scoring costs."""
_MEMORY = 32 << 20


def judged(
    registry: Registry, version: Version, gating: Gating, *, safety: Safety, copies: Callable[[], Sequence[Span]],
    progress: Callable[[float], None] | None = None, clock: Callable[[], float] = time.thread_time,
) -> Verdict | None:  # fmt: skip
    """Compare a version with the live one by what the ledger holds; None where nothing is live, or it holds nothing.

    Both models are loaded and the ledger is read beside whoever serves it: nothing is changed and nothing waits.

    Parameters
    ----------
    registry
        Of the state directory.
    copies
        Gives the spans of the examples that say again what an earlier stretch of them said, once the ledger is open.
    progress
        Called with the share of the ledger that was played; it may raise to give up.
    clock
        Seconds of processor time, in which scoring is measured.

    Raises
    ------
    StateError
        The version is not registered or was pruned, or something on disk is damaged.
    ConfigError
        A slice or entity that the ledger does not record.
    """
    live, record, ledger = registry.live(), registry.record(version), registry.folder / "ledger"
    if live is None or not (ledger / "examples").exists():
        return None
    paths = [registry.path(name) for name in (live.version, version)]
    served, candidate = (model_of(path) for path in paths)
    with (
        Log.open(ledger / "predictions", predictions_of(served), read_only=True, memory_bytes=_MEMORY) as predictions,
        Log.open(ledger / "examples", EXAMPLES, read_only=True, memory_bytes=_MEMORY) as examples,
    ):
        if examples.end == examples.first:
            return None
        recent = predictions.read(max(predictions.first, predictions.end - REQUESTS))
        times = latencies([served, candidate], recent, clock)
        costs = [Cost(seconds, size(path)) for seconds, path in zip(times, paths)]
        if gating.holdout is not None:
            return judge_held_out(
                candidate, served, predictions, examples, gating, live=costs[0], cost=costs[1], progress=progress
            )
        return judge(
            candidate, Cutoff.of(record, examples, predictions), predictions, examples, gating, safety=safety,
            live=costs[0], cost=costs[1], copies=copies(), progress=progress,
        )  # fmt: skip


def forced(why: str, reasons: Sequence[str]) -> str:
    """The reason that the history keeps of a version that was published although the gate refused it.

    >>> forced("a known outage", ["size: 3.0 MB, live 1.0 MB; 2.0 MB is allowed"])
    'a known outage (forced, although refused: size: 3.0 MB, live 1.0 MB; 2.0 MB is allowed)'
    """
    return f"{why} (forced, although refused: {'; '.join(reasons)})" if reasons else why
