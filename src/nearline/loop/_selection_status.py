"""What the dashboard shows of a network's training: rows offered and chosen, weights, trust, and rules compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearline.store import Version

SHOWN = (
    "rule", "setting", "seen", "chosen", "total_seen", "total_chosen", "effective", "largest_weight",
    "uniform_share", "kappa", "lag", "held", "trimmed", "unsketched",
)  # fmt: skip


def selection_status(version: Version, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """The part `selection` of the status; None where the live network was never trained from the ledger.

    Parameters
    ----------
    version
        The global version that is served.
    about
        What its `training.json` says.

    Examples
    --------
    >>> quality = {"examples": 4, "loss": 0.5, "predicted": 1.0, "happened": 2.0}
    >>> about = {"selection": {"trained": {"rule": "pps", "seen": 100, "chosen": 10, "quality": quality}}}
    >>> found = selection_status(Version(2), about)
    >>> found["rules"][0]["role"], found["rules"][0]["calibration"]
    ('trained', 0.5)
    """
    trained = about.get("selection")
    if not trained:
        return None
    return {"version": str(version), "rules": [_rule(role, one) for role, one in trained.items()]}


def _rule(role: str, one: Mapping[str, Any]) -> dict[str, Any]:
    quality = one.get("quality") or {}
    happened = quality.get("happened")
    return {
        "role": role, **{name: one.get(name) for name in SHOWN}, "examples": quality.get("examples"),
        "log_loss": quality.get("loss"), "calibration": quality["predicted"] / happened if happened else None,
    }  # fmt: skip
