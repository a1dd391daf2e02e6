"""The running system: serves one model, records what it predicts, and learns what happened, in one process.

The learner thread owns its model. What it learned is committed, then copied to the served replica under a short lock,
so a prediction never sees half an update nor anything that a crash could take back.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline._errors import Conflict, NearlineError, StateError
from nearline.deep import rows_of
from nearline.gate import ChangeSettings, GuardSettings, HoldOut
from nearline.glmix import Safety, Scorer
from nearline.join import Policy
from nearline.loop._events import predictions_of
from nearline.loop._gatekeeper import Gatekeeper
from nearline.loop._handover import Handover
from nearline.loop._housekeeping import Housekeeping
from nearline.loop._learner import Learner, Tick
from nearline.loop._lines import Line
from nearline.loop._meters import Busiest, Freshness
from nearline.loop._settings import Pace, Recording
from nearline.loop._status import status
from nearline.loop._storage import Storage
from nearline.loop._trial import Gating
from nearline.loop._versions import Versions
from nearline.loop._warm import warm
from nearline.recalibrate import RecalibrationSettings
from nearline.serve import Limits, Live, Published
from nearline.store import Change, Recorder, Version

_logger = logging.getLogger("nearline")
RETRY_SECONDS = 1.0
WARM_ROWS = 8
REPLACED = "as it was when another version was published"


class Loop:
    """One state directory, served and learned from; implements `nearline.serve.Service`.

    Parameters
    ----------
    folder
        The state directory, with a published version in it (`nearline fit` makes the first).
    policy, pace, recording, safety, guard
        How outcomes are joined, how often is learned, when a row counts as recorded, what is refused, and when the
        live model is rolled back.
    change
        When the world counts as changed, so that the model lets go of its certainty; None never asks.
    recalibrate, holdout
        How a map of served scores is learned, and which predictions never are, for the gate; None for neither.
    gating
        How the gate judges what `publish` is told to make live; None never asks it.
    learn
        False serves and records only: outcomes wait in the ledger for a learner.
    clock
        Seconds since the epoch.

    Raises
    ------
    StateError
        Nothing is published, another process has the directory open, or a part of it is damaged.
    """

    def __init__(
        self, folder: Path, policy: Policy, *, pace: Pace, recording: Recording, safety: Safety,
        guard: GuardSettings | None, limits: Limits, clock: Callable[[], float], learn: bool = True,
        change: ChangeSettings | None = None, recalibrate: RecalibrationSettings | None = None,
        holdout: HoldOut | None = None, gating: Gating | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.pace, self.recording, self.limits = folder, pace, recording, limits
        self.clock, self.learns, self.started = clock, learn, clock()
        self.freshness, self.busiest = Freshness(), Busiest()
        self.error: str | None = "starting"
        self.guarded, self.rolled_back = guard is not None, ""
        self._limit: int | None = None
        self._suspect, self._quarantine, self._broken, self._cold = 0, "", False, True
        self._kept = self._looked = self.started
        self._stop, self._turn = threading.Event(), threading.Lock()
        with ExitStack() as opened:
            self._versions = Versions(folder, clock, pace.keep)
            opened.callback(self._versions.close)
            entry = self._versions.pointer()
            model = self._versions.load(entry.version)
            columns = predictions_of(model, recalibrate is not None, recording.sketch)
            self.storage = Storage.open(folder, columns, recording)
            opened.callback(self.storage.close)
            self.learner = Learner(
                self.storage, policy, safety, self._versions.load, guard or GuardSettings(link=model.link),
                change=change, batch=pace.batch, recalibrate=recalibrate, holdout=holdout,
            )  # fmt: skip
            self._gatekeeper = Gatekeeper(self._versions.registry, gating, safety, lambda: self.learner.copies)
            self.handover = Handover(self.learner, self._versions, pace.lag, clock)
            if not self.learner.restore():
                self.learner.begin(entry.version, entry.number, self.started, self._versions.held(entry.version))
            self._follow()
            self._serve()
            self._house = Housekeeping(self.storage, self._versions, recording.retention, self.started, self.started)
            self.run = self.storage.runs.start(self.storage.predictions.end, self.started)
            opened.pop_all()
        self.predictions = Recorder(
            self.storage.predictions, durable=recording.durable, max_rows=recording.waiting,
            flush_seconds=recording.flush, made={"prediction_id": self.run},
        )  # fmt: skip
        self.outcomes = Recorder(self.storage.outcomes, max_rows=recording.waiting)
        self._thread = threading.Thread(target=self._work, name="nearline-learner", daemon=True)

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to learn; predictions can be served from now on."""
        self.error = None
        self._thread.start()

    def turn(self) -> None:
        """What the learner does every tick, once: for a loop that is not started, whose clock is the caller's own."""
        with self._turn:
            self._round()

    def close(self) -> None:
        """Learn what waits, keep a version, make everything durable, and give the directory back."""
        self.error = "stopping"
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.predictions.close()
        self.outcomes.close()
        with ExitStack() as opened:
            opened.callback(self.storage.close)
            opened.callback(self._versions.close)
            if self.learns:
                self._mend()
                while self._tick():
                    pass
                self._snapshot("the service stopped")

    def __enter__(self) -> Loop:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what the HTTP app asks ---------------------------------------------------------------------------------------

    @property
    def unready(self) -> str | None:
        """Why no predictions can be served now; None when they can."""
        return self.error if self.error in ("starting", "stopping") else None

    def now(self) -> float:
        """Seconds since the epoch."""
        return self.clock()

    def seed(self) -> int:
        """Seed of a Thompson draw, recorded with its prediction."""
        return secrets.randbits(63)

    def ids(self, first: int, n: int) -> list[str]:
        """Ids of n predictions from a position on."""
        return self.run.ids(first, n)

    def resolve(self, ids: Sequence[str]) -> tuple[NDArray[np.int64], Mapping[int, str]]:
        """Position of every prediction id, −1 where it is refused, and the reasons by place."""
        log = self.storage.predictions
        return self.storage.runs.resolve(ids, first=log.first, end=log.end)

    def status(self) -> dict[str, Any]:
        """What the dashboard shows, but the traffic."""
        return status(self)

    def history(self) -> list[dict[str, Any]]:
        """The newest changes of what is live."""
        return self._versions.history()

    def versions(self) -> dict[str, Any]:
        """The live version, those that can be published, and their history."""
        return self._versions.summary(self.live.scorer.version)

    def publish(
        self, version: str, why: str, who: str, force: bool = False, halted: Callable[[], bool] = lambda: False
    ) -> Published:
        """Make a registered version the live one if the gate lets it or it is forced; what is served now.

        A fit of which examples came since is served as soon as it has learned them; any other from when this returns.
        """
        named, before = Version.parse(version), self._standing()
        self._versions.require(named)
        found, why = self._gatekeeper.let(named, why, force, halted)
        with self._turn:
            self._mend()
            if self._standing() != before:
                raise Conflict(f"something else went live while version {version} was judged; look, and order it again")
            self._versions.publish(named, who, why)
            self._follow()
        return Published(self.live.scorer.version, found)

    def _standing(self) -> tuple[Line, int, int]:
        """What a version is judged beside: the line that learns, and that of what the registry says is live."""
        pointer = self._versions.pointer().version
        return self.learner.line, pointer.whole, pointer.batch

    def rollback(self, to: str | None, why: str, who: str) -> str:
        """Return to a version, by default the one before the live one; served from when this returns."""
        with self._turn:
            self._mend()
            named = None if to is None else Version.parse(to)
            if named is not None:
                self._versions.require(named)
            self._go_back(named, why, who)
        return self.live.scorer.version

    # -- the learner thread -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        pause, why = self.pace.tick, self.error
        while not self._stop.wait(pause):
            try:
                self.turn()
                self._house.keep(self.learner, self.clock())
            except Exception as error:  # the service goes on serving, and says what is wrong
                _logger.error("learning stopped: %s", error, exc_info=not isinstance(error, NearlineError))
                pause, why = RETRY_SECONDS, _worded(error)
            else:
                pause, why = self.pace.tick, None
            if not self._stop.is_set():
                self.error = why

    def _round(self) -> None:
        """Follow, learn what waits, and keep a version when it is time."""
        self._mend()
        self._warm()
        now = self.clock()
        if now - self._looked >= self.pace.follow:
            self._looked = now
            self._follow()
        while self.learns and self._tick() and not self._stop.is_set():
            pass
        self._hand_over()
        if self.learns and now - self._kept >= self.pace.snapshot:
            self._kept = now
            self._snapshot("kept every so often")

    def _warm(self) -> None:
        """Once there are predictions: what learning them needs is compiled before their outcomes come."""
        log = self.storage.predictions
        if self._cold and self.learns and log.end > log.first:
            self._cold = False
            rows = log.read(max(log.first, log.end - WARM_ROWS), WARM_ROWS)
            warm(self.learner.model, self.learner.safety, rows.filter(rows.column("time").is_valid()))

    def _mend(self) -> None:
        """After a tick that failed: what it left in memory is worth nothing, the last commit is."""
        if self._broken:
            self.handover.drop()
            self.learner.restore()
            if self.live.scorer.version != str(self.learner.version):
                self._serve()
            self._broken = False

    def _tick(self) -> bool:
        """Learn one batch; whether more waits."""
        try:
            tick = self.learner.tick(self.clock(), limit=self._limit, quarantine=self._quarantine)
        except Exception as error:
            self._broken = True
            if not isinstance(error, StateError):
                self._narrow(_worded(error))
            with suppress(NearlineError):
                self._mend()
            raise
        if self._quarantine or self.learner.join.outcome_end >= self._suspect:
            self._limit, self._quarantine = None, ""
        if tick is None:
            return False
        self._show(tick)
        if tick.changed:
            _logger.warning("the world has changed, and every entity lets go of its certainty: %s", tick.changed)
        verdict = self.learner.guard.verdict()
        if self.guarded and verdict.action == "roll back" and self.handover.coming is None:
            _logger.warning("rolling back to %s: %s", self.learner.line.base, verdict.reason)
            self._go_back(self.learner.line.base, verdict.reason, "guard")
            self.rolled_back = verdict.reason
        return self.learner.waiting > 0

    def _narrow(self, why: str) -> None:
        """Outcomes that cannot be learned for a reason nobody foresaw: find them by halving, and quarantine them."""
        if self._limit is None:
            # Where the failed tick began is not known any more: what waits now holds all it read.
            self._limit, self._suspect = self.pace.batch, self.storage.outcomes.end
        elif self._limit == 1:
            self._quarantine = why
        self._limit = max(1, self._limit // 2)

    def _show(self, tick: Tick) -> None:
        """Let predictions see what was committed."""
        scorer = self.live.scorer
        with scorer.lock:
            if tick.delta is not None:
                tick.delta.apply(scorer.model)
                scorer.refresh()
            scorer.version, scorer.remap = str(tick.version), self.learner.calibration.curve
        now = self.clock()
        self.freshness.saw(now, tick.received)
        for effect, codes in tick.taught.codes.items():
            self.busiest.saw(now, effect, codes)

    def _serve(self) -> None:
        """Serve a replica of the learner's model as it is now."""
        replica = self.learner.model.replica()
        scorer = Scorer(replica, str(self.learner.version))
        scorer.remap = self.learner.calibration.curve
        self.shown = scorer, self.learner.stale
        recorded = self.storage.predictions.schema.names
        self.live = Live(scorer, rows_of(replica, self.recording.sketch), "served" in recorded)
        self.busiest.clear()

    # -- versions -----------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Serve what the registry says is live, where that is news; a fit only once it has caught up."""
        entry = self.handover.news()
        if entry is None:
            return
        if self.handover.stays(entry):
            self.handover.stay(entry)
            return
        self.handover.drop()
        if self.handover.begin(entry):
            self._hand_over()
            return
        self._register(REPLACED)
        self.learner.begin(entry.version, entry.number, self.clock(), self._versions.held(entry.version))
        self._gone_over(entry)

    def _hand_over(self) -> None:
        """Learn what came since the published fit's cut-off, for a while; serve it once nothing is left."""
        try:
            ready = self.handover.go_on()
        except Exception as error:
            self.handover.refuse(_worded(error))
            return
        entry, caught = self.handover.entry, self.handover.caught
        if not ready or entry is None or caught is None or self.handover.news() is not None:
            return
        self._register(REPLACED)
        try:
            self.learner.succeed(caught, entry.number, self.clock())
        except BaseException:
            self._broken = True
            raise
        self.handover.drop()
        self._gone_over(entry)

    def _gone_over(self, entry: Change) -> None:
        self.rolled_back = ""
        if hasattr(self, "live"):
            self._serve()
        _logger.info("version %s is live: %s by %s (%s)", entry.version, entry.action, entry.who, entry.why)

    def _register(self, why: str) -> Version | None:
        """Keep what was learned since the last version, as one that can be published; None when there is nothing."""
        learner = self.learner
        version = learner.version
        if version == learner.line.base or self._versions.known(version):
            return None
        positions = {
            "start": learner.line.start, "examples": self.storage.examples.end, "outcomes": learner.join.outcome_end,
        }  # fmt: skip
        self._versions.register(learner.model, version, learner.line.base, why, positions, learner.guard.summary())
        return version

    def _snapshot(self, why: str) -> None:
        """Keep a version and name it the live one, unless another was published that is not served yet."""
        version, entry = self._register(why), self._versions.pointer()
        if version is not None and entry.number == self.learner.entry:
            with suppress(Conflict):
                named = self._versions.publish(version, "learner", why, entry.version)
                self.learner.follow(named.number, self.clock())

    def _go_back(self, to: Version | None, why: str, who: str) -> None:
        self._snapshot("as it was before a roll back")
        self._versions.rollback(to, who, why)
        self._follow()


def _worded(error: Exception) -> str:
    return str(error) or type(error).__name__
