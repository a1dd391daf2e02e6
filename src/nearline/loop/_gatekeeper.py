"""The gate as a running service asks it before it publishes what a person orders."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from nearline._errors import Conflict, Refused, StateError
from nearline.gate import Verdict
from nearline.glmix import Safety
from nearline.loop._held import Span
from nearline.loop._judged import forced, judged
from nearline.loop._trial import Gating
from nearline.serve import Judged
from nearline.store import Registry, Version


class Gatekeeper:
    """Judges versions beside the live one, one at a time, without a lock that serving or learning take.

    Parameters
    ----------
    gating
        How candidates are judged; None lets everything through.
    safety
        What is quarantined instead of learned, as when it will be served.
    copies
        Gives the spans of the examples that say again what an earlier stretch of them said.
    """

    def __init__(
        self, registry: Registry, gating: Gating | None, safety: Safety, copies: Callable[[], Sequence[Span]]
    ) -> None:
        self._registry, self._gating, self._safety, self._copies = registry, gating, safety, copies
        self._asked = threading.Lock()

    def let(self, version: Version, why: str, force: bool, halted: Callable[[], bool]) -> tuple[Judged, str]:
        """What the gate finds of a version, and why it is published, for the history.

        Parameters
        ----------
        force
            Let it through whatever is found; the reason then says so.
        halted
            Whether to give up, because the service stops: a long ledger takes a while.

        Raises
        ------
        Refused
            It does not pass, and is not forced.
        Conflict
            Another version is being judged.
        StateError
            It was given up, or the version cannot be read.
        ConfigError
            `[gate]` names a column that the ledger does not record.
        """
        found = self._ask(version, halted)
        refused = found.reasons if found.verdict == "refused" else []
        if refused and not force:
            raise Refused(str(version), refused)
        return found, forced(why, refused)

    def _ask(self, version: Version, halted: Callable[[], bool]) -> Judged:
        live = self._registry.live()
        if self._gating is None:
            return _not("the gate is switched off: [gate] enabled = false")
        if live is not None and live.version == version:
            return _not("it is live already")
        if not self._asked.acquire(blocking=False):
            raise Conflict(f"another version is being judged; ask for {version} again when that is done")

        def going_on(share: float) -> None:
            if halted():
                raise StateError(f"the service stops while version {version} is judged; nothing was published")

        try:
            return _found(
                judged(
                    self._registry, version, self._gating, safety=self._safety, copies=self._copies, progress=going_on
                )
            )
        finally:
            self._asked.release()


def _found(verdict: Verdict | None) -> Judged:
    if verdict is None:
        return _not("the ledger holds no examples yet")
    checks = {check.name: check.sentence for check in verdict.checks}
    return Judged("passed" if verdict.passed else "refused", list(verdict.reasons), checks)


def _not(why: str) -> Judged:
    return Judged("not judged", [why])
