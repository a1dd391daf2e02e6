"""Versions of a running model: loaded, kept and pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import EllipsisType
from typing import Any

import msgspec

from nearline._errors import ConfigError, StateError
from nearline.deep import NetworkGLMix, load_model
from nearline.glmix import GLMix
from nearline.loop._selection_log import SelectionLog
from nearline.store import Change, Record, Registry, Version

HISTORY = 20
TRAINING = "training.json"


def model_of(folder: Path) -> GLMix:
    """The model in the folder of a version; a network of it takes one thread."""
    model = load_model(folder)
    if isinstance(model, NetworkGLMix):
        model.use_one_thread()
    return model


class Versions:
    """The registry of a state directory, with what the loop needs of it."""

    def __init__(self, folder: Path, clock: Callable[[], float], keep: int) -> None:
        self.folder, self.keep = folder, keep
        self.registry = Registry(folder, clock=clock)
        self._loaded: tuple[Version, GLMix] | None = None
        self._about: tuple[Version, dict[str, Any]] | None = None

    def close(self) -> None:
        """Release the database."""
        self.registry.close()

    def pointer(self) -> Change:
        """The publish or roll back that made live what is live.

        Raises
        ------
        StateError
            Nothing was published yet.
        """
        found = self.registry.pointer()
        if found is None:
            raise StateError(f"{self.folder} has no published version; make one with: nearline fit nearline.toml")
        return found

    def record(self, version: Version) -> Record:
        """What is known of a version."""
        return self.registry.record(version)

    def held(self, version: Version) -> list[tuple[int, int]]:
        """Examples [start, end) that a version and those it was learned from hold one by one, the newest first."""
        spans, at = [], version if self.known(version) else None
        while at is not None:
            record = self.record(at)
            if "examples" in record.positions:
                spans.append((record.positions["start"], record.positions["examples"]))
            at = record.parent
        return spans

    def cutoff(self, version: Version) -> int | None:
        """Position of the first example that a fit has not consumed; None for a version that is no such fit."""
        return self.record(version).positions.get("examples") if version.nearline == 0 else None

    def named(self, entry: int) -> Version | None:
        """The version that an entry of the history is about."""
        return next((change.version for change in self.registry.history() if change.number == entry), None)

    def known(self, version: Version) -> bool:
        """Whether a version of this name was registered."""
        return any(record.version == version for record in self.registry.versions())

    def require(self, version: Version) -> None:
        """Raise ConfigError unless a version of this name was registered."""
        if not self.known(version):
            newest = ", ".join(str(record.version) for record in self.registry.versions()[:5])
            raise ConfigError(f"there is no version {version}; the newest are {newest}")

    def load(self, version: Version) -> GLMix:
        """The model of a version, not to be changed: the one loaded last is kept for whoever asks again."""
        if self._loaded is None or self._loaded[0] != version:
            self._loaded = None
            self._loaded = version, model_of(self.registry.path(version))
        return self._loaded[1]

    def about(self, version: Version) -> dict[str, Any]:
        """What a version was trained with (`training.json`); nothing where it was not registered by a training."""
        if self._about is None or self._about[0] != version:
            path = self.record(version).folder / TRAINING if self.known(version) else None
            found = msgspec.json.decode(path.read_bytes()) if path is not None and path.exists() else {}
            self._about = version, found
        return self._about[1]

    def register(
        self, model: GLMix, version: Version, parent: Version, why: str, positions: Mapping[str, int],
        quality: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Save a model as a version."""
        live = quality.get("live") or {}
        metrics = {name: float(value) for name, value in live.items() if value is not None}
        staged = model.save(self.registry.stage())
        self.registry.register(
            staged, version, who="learner", why=why, parent=parent, metrics=metrics, positions=positions
        )

    def publish(self, version: Version, who: str, why: str, expected: Version | EllipsisType = ...) -> Change:
        """Make a version live; only if `expected` is, where that is given."""
        return self.registry.publish(version, who=who, why=why, expected=expected)

    def rollback(self, to: Version | None, who: str, why: str, expected: Version | EllipsisType = ...) -> Change:
        """Make an earlier version live again; only if `expected` is, where that is given."""
        return self.registry.rollback(to, who=who, why=why, expected=expected)

    def retain(self, *also: Version) -> None:
        """Prune old versions; what is live, its base and `also` stay, and so does what trainings chose."""
        SelectionLog(self.folder).collect(self.registry)
        self.registry.retain(self.keep, who="learner", why="old versions", also=also)

    def summary(self, live: str) -> dict[str, Any]:
        """For people: what is live, what there is, what happened."""
        versions = [
            {
                "version": str(record.version), "created": record.created, "who": record.who, "why": record.why,
                "parent": None if record.parent is None else str(record.parent), "metrics": dict(record.metrics),
            }
            for record in self.registry.versions()[: 5 * HISTORY]
        ]  # fmt: skip
        return {"live": live, "versions": versions, "history": self.history()}

    def history(self) -> list[dict[str, Any]]:
        """The newest changes of what is live."""
        changes = [change for change in self.registry.history(5 * HISTORY) if change.action in ("publish", "rollback")]
        return [
            {
                "time": change.time, "action": change.action, "version": str(change.version), "who": change.who,
                "why": change.why, "previous": None if change.previous is None else str(change.previous),
            }
            for change in changes[:HISTORY]
        ]  # fmt: skip
