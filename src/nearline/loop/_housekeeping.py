"""Upkeep of the ledger's files while a service runs: sealed, merged, and let go of when they are old enough."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from nearline.loop._learner import Learner
from nearline.loop._storage import Storage
from nearline.loop._versions import Versions
from nearline.store import Version, first_at

EVERY_SECONDS, COMPACT_SECONDS = 30.0, 600.0


@dataclass
class Housekeeping:
    """What is looked after every half minute, and when that was last done (seconds since the epoch).

    `retention` is how many seconds rows are kept for; None keeps them all.
    """

    storage: Storage
    versions: Versions
    retention: float | None
    kept: float
    compacted: float

    def keep(self, learner: Learner, now: float) -> None:
        """Do what is due; rows that the learner still needs are never let go of."""
        if now - self.kept < EVERY_SECONDS:
            return
        self.kept, compact = now, now - self.compacted >= COMPACT_SECONDS
        self.compacted = now if compact else self.compacted
        for log, needed in zip(self.storage.logs, learner.needed()):
            log.seal()
            if compact:
                log.compact()
            if self.retention is not None:
                # Examples go by their prediction's time.
                column = "received" if "received" in log.schema.names else "time"
                log.retain(min(needed, first_at(log, now - self.retention, column)))
        line = learner.line
        self.versions.retain(line.base, Version(line.whole))  # the global fit is what the next re-fit begins with
        pa.default_memory_pool().release_unused()  # sealing takes tens of megabytes for a moment
