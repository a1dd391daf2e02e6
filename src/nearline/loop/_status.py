"""What the dashboard shows: one plain object, made anew for every request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nearline.glmix._layout import key_of
from nearline.loop._examples import LOOSENED
from nearline.loop._selection_status import selection_status
from nearline.store import Version

if TYPE_CHECKING:
    from nearline.glmix import GLMix
    from nearline.loop._loop import Loop

BUSIEST, CHANGES = 10, 3
_COUNTED = {
    "learn": "learned", "negative": "negative", "late": "late", "correct": "corrected", "retract": "retracted",
    "repeat": "repeated", "discard": "expired", "refused": "refused", "quarantined": "quarantined",
    "held_out": "held_out",
}  # fmt: skip


def status(loop: Loop) -> dict[str, Any]:
    """State of the loop now; see `docs/http.md` for its fields."""
    now, learner, scorer = loop.clock(), loop.learner, loop.live.scorer
    quality = learner.guard.summary()
    verdict = learner.guard.verdict()
    freshness = loop.freshness
    last = freshness.last_received
    waiting, whole = learner.waiting, Version(learner.line.whole)
    return {
        "time": now,
        "started": loop.started,
        "error": loop.error,
        "model": {
            "version": scorer.version, "base": str(learner.line.base), "learned": scorer.model.events_learned,
            "link": scorer.model.link, "bytes": scorer.model.nbytes(),
            "entities": {block.name: block.entities for block in scorer.model.blocks},
            "dims": {block.name: block.d for block in scorer.model.blocks},
        },
        "freshness": {
            **freshness.summary(now), "waiting": waiting,
            "lag_s": 0.0 if last is None or not waiting else max(0.0, now - last),
            "last_learned": last,
        },
        "joins": {
            "pending": learner.join.pending,
            **{shown: learner.counts.get(name, 0) for name, shown in _COUNTED.items()},
            "failed": learner.counts.get("failed", 0),
        },
        "quality": {**quality, "series": quality["series"][-300:]},
        "guard": {
            "state": "rolled_back" if loop.rolled_back else "watching" if loop.guarded else "off",
            "reason": loop.rolled_back or verdict.reason,
            "changes": learner.counts.get(LOOSENED, 0), "change": learner.changed,
        },
        "recalibration": learner.calibration.summary(),
        "versions": {"live": scorer.version, "coming": _coming(loop), "history": loop.history()},
        "selection": selection_status(whole, loop._versions.about(whole)),
        "busiest": busiest(loop),
    }  # fmt: skip


def _coming(loop: Loop) -> dict[str, Any] | None:
    """The published version that is not served yet, and how many examples it has still to learn."""
    coming = loop.handover.coming
    return None if coming is None else {"version": str(coming), "behind": loop.handover.behind}


def busiest(loop: Loop) -> list[dict[str, Any]]:
    """The entities with most events lately, and the coefficients that moved furthest from the base's."""
    scorer, stale = loop.shown
    served, found = scorer.model, []
    with scorer.lock:
        for name, code, events in loop.busiest.top(BUSIEST):
            block = served.block(name)
            if code < block.entities:
                found.append({
                    "effect": name, "entity": _name(served, name, code), "events": events,
                    "changes": _changes(served, stale, name, code),
                })  # fmt: skip
    return found


def _name(model: GLMix, effect: str, code: int) -> str:
    key = key_of(model.block(effect))
    value = None if key is None else model.encoder.entity_name(key, code)
    return " · ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _changes(served: GLMix, stale: GLMix, effect: str, code: int) -> list[dict[str, Any]]:
    block, base = served.block(effect), stale.block(effect)
    after = block.mean[code].astype(np.float64)
    before = block.belief.mu0(block.columns)
    if code < base.entities:
        before[: base.d] = base.mean[code]
    order = np.argsort(-np.abs(after - before))[:CHANGES]
    names = served.encoder.slot_names
    return [
        {"feature": names[block.slots[j]] if j < len(block.slots) else f"[{j}]", "before": float(before[j]),
         "after": float(after[j])}
        for j in order.tolist()
    ]  # fmt: skip
