"""The tables of a running system, turned into the settings of the rooms that run it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nearline.config import _select
from nearline.glmix._replay import seconds

if TYPE_CHECKING:
    from nearline.config._all_tables import Tables
    from nearline.gate import ChangeSettings, GuardSettings
    from nearline.glmix import Safety
    from nearline.join import Policy
    from nearline.loop import Gating, Pace, Recording
    from nearline.recalibrate import RecalibrationSettings
    from nearline.serve import Limits


HORIZON_SECONDS = 3600.0
"""How long a prediction can be corrected where neither the horizon nor the window says more."""


@dataclass(frozen=True, slots=True)
class Running:
    """Settings of a running system.

    Attributes
    ----------
    folder
        The state directory.
    guard, change, recalibrate
        None where they are switched off.
    gating
        How candidates are judged; `publish` asks only where `gated`.
    host, port, tokens
        Address of the service, and the file of its bearer tokens.
    """

    folder: Path
    policy: Policy
    pace: Pace
    recording: Recording
    safety: Safety
    guard: GuardSettings | None
    change: ChangeSettings | None
    recalibrate: RecalibrationSettings | None
    gated: bool
    gating: Gating
    limits: Limits
    host: str
    port: int
    tokens: Path | None


def running(tables: Tables, base: Path) -> Running:
    """What the tables say; paths are relative to `base`."""
    from nearline.gate import ChangeSettings, GuardSettings
    from nearline.glmix import Safety
    from nearline.join import Policy
    from nearline.loop import Pace, Recording
    from nearline.serve import Limits

    join = _seconds(tables.join)
    if join["horizon"] is None:
        join["horizon"] = max(HORIZON_SECONDS, join["window"])
    live, serve = _seconds(tables.live), msgspec.structs.asdict(tables.serve)
    folder = base / Path(live.pop("folder")).expanduser()
    guard, change = (_enabled(table, tables.model.link) for table in (tables.guard, tables.change))
    host, port, tokens = (serve.pop(name) for name in ("host", "port", "tokens"))
    return Running(
        folder, Policy(**join), Pace(**live), Recording(**_seconds(tables.ledger), sketch=_select.sketch(tables.deep)),
        Safety(**msgspec.structs.asdict(tables.safety)),
        None if guard is None else GuardSettings(**guard), None if change is None else ChangeSettings(**change),
        _recalibrate(tables), tables.gate.enabled, _gating(tables), Limits(**serve), host, port,
        None if tokens is None else base / Path(tokens).expanduser(),
    )  # fmt: skip


def _recalibrate(tables: Tables) -> RecalibrationSettings | None:
    """None where it is switched off, or the link has no probabilities."""
    from nearline.recalibrate import RecalibrationSettings

    given = _seconds(tables.recalibrate)
    return RecalibrationSettings(**given) if given.pop("enabled") and tables.model.link == "logit" else None


def _gating(tables: Tables) -> Gating:
    from nearline.gate import HoldOut, PublishSettings
    from nearline.loop import Gating

    given = _seconds(tables.gate)
    given["size_floor"] = given.pop("size_floor_mb") * 2**20
    own = {name: given.pop(name) for name in ("slices", "entities", "rows")}
    fields, share, _ = (given.pop(name) for name in ("holdout", "share", "enabled"))
    own["holdout"] = HoldOut(fields, share) if fields else None
    return Gating(PublishSettings(**given, link=tables.model.link), **own)


_DURATIONS = frozenset(
    {
        "half_life",
        "latency_floor",
        "tick",
        "snapshot",
        "follow",
        "window",
        "lateness",
        "horizon",
        "skew",
        "flush",
        "retention",
    }
)


def _enabled(table: msgspec.Struct, link: str) -> dict[str, Any] | None:
    """Settings of a table that can be switched off; None where it is."""
    found = {"link": link, **msgspec.structs.asdict(table)}
    return found if found.pop("enabled") else None


def _seconds(table: msgspec.Struct) -> dict[str, Any]:
    """Fields of a table, its durations in seconds."""
    found = msgspec.structs.asdict(table)
    for name in _DURATIONS & found.keys():
        if isinstance(found[name], str):
            found[name] = seconds(found[name])
    return found
