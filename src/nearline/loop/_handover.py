"""From one published version to the next: which are gone over to at once, and which have first to catch up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

from nearline._errors import Conflict, NearlineError
from nearline.loop._catch_up import CatchUp
from nearline.loop._events import require_recorded
from nearline.loop._learner import Learner
from nearline.loop._versions import Versions
from nearline.store import Change, Version

_logger = logging.getLogger("nearline")
BATCHES = 25
"""So many batches are learned anew between two ticks: a small one takes some milliseconds, however small."""


class Handover:
    """Brings what the registry says is live into service; the old pair serves on until the new one has caught up.

    Parameters
    ----------
    lag
        Examples that are learned anew per call of `go_on`, besides as many as came in.
    """

    def __init__(self, learner: Learner, versions: Versions, lag: int, clock: Callable[[], float]) -> None:
        self._learner, self._versions, self._lag, self._clock = learner, versions, lag, clock
        self.entry: Change | None = None
        self.caught: CatchUp | None = None
        self._over: Version | None = None
        self._seen = 0

    @property
    def behind(self) -> int:
        """Examples that the version which catches up has still to learn."""
        return 0 if self.caught is None else self.caught.behind

    @property
    def coming(self) -> Version | None:
        """The version that catches up, None while none does."""
        return None if self.entry is None else self.entry.version

    def drop(self) -> None:
        """Forget the version that catches up; `news` finds it again, for as long as it is the published one."""
        self.entry = self.caught = None

    def news(self) -> Change | None:
        """The registry's newest entry, unless it is what is served or what catches up."""
        entry = self._versions.pointer()
        known = {self._learner.entry} | ({self.entry.number} if self.entry else set())
        return None if entry.number in known else entry

    def stays(self, entry: Change) -> bool:
        """Whether an entry only takes back a version that is not served yet."""
        return self.entry is not None and entry.action == "rollback" and entry.version == self._over

    def begin(self, entry: Change) -> bool:
        """Begin to catch up with an entry's version; False where it is to be served as it is.

        A fit is caught up with when it is published, or was never served; a roll back means what it says.
        """
        version = entry.version
        cutoff = self._versions.cutoff(version)
        served = (version.whole, version.batch) in self._learner.used
        self.entry, self._over = entry, self._versions.named(self._learner.entry)
        try:
            if cutoff is None or (served and entry.action == "rollback"):
                require_recorded(version, self._versions.load(version), self._learner.storage.predictions.schema)
                self.drop()
                return False
            self.caught = self._learner.catch_up(version, cutoff, self._versions.held(version))
            self._seen = self.caught.at + self.caught.behind
            _logger.info("version %s learns the %d examples after its cut-off", version, self.caught.behind)
        except NearlineError as error:
            self.refuse(str(error))
        return True

    def go_on(self) -> bool:
        """Learn some of what is behind; True once nothing is, and the new pair may be put in place.

        As many examples as the live pair has learned since the last call, and up to `lag` more in at most `BATCHES`
        batches: it comes nearer every time, and the next tick does not wait long.
        """
        caught = self.caught
        if caught is None:
            return False
        end = caught.at + caught.behind
        came, self._seen = end - max(self._seen, caught.at), end
        done = batches = 0
        while done < came or (done < came + self._lag and batches < BATCHES):
            rows = caught.step()
            if not rows:
                break
            done, batches = done + rows, batches + 1
        return caught.behind == 0

    def stay(self, entry: Change) -> None:
        """Serve on what is served, which the entry names."""
        self.drop()
        self._learner.follow(entry.number, self._clock())

    def refuse(self, why: str) -> None:
        """Take back the published version, which was never served; unless another was published meanwhile."""
        entry, over = self.entry, self._over
        self.drop()
        if entry is None or over is None:
            return
        _logger.error("version %s is not served: %s", entry.version, why)
        with suppress(Conflict):
            self.stay(self._versions.rollback(over, "learner", why, entry.version))
