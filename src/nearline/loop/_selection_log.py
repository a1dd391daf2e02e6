"""The log of what training chose, in the state directory: selection/<version>.parquet, one row per window.

    prediction   positions of the window's predictions
    index, prob, weight   which of them were chosen, with what probability and weight
    rule, settings, seed, state, uniform_share, kappa, …   enough to make the choice again

The network that is trained for comparison has its own, <version>.shadow.parquet. A log is registered with its version,
in the version's folder: both are there, or neither. From there it is copied to where it outlives that folder.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nearline.select import from_settings
from nearline.store import Registry, Version
from nearline.store._folder import sync, sync_folder

FOLDER, SHADOW = "selection", ".shadow"


@dataclass(frozen=True, slots=True)
class Choice:
    """What a training made of a prediction.

    Attributes
    ----------
    version
        The version that was trained.
    rule, setting, window, seed
        Which draw it was in; the setting is the rule with those of its parameters that are not the usual ones.
    fate
        "chosen", "passed over" or "trimmed".
    probability
        Of being chosen: known of the chosen rows, by rules that have one.
    weight
        With which it was learned.
    shadow
        Whether it is the network for comparison that was trained.
    """

    version: str
    rule: str
    window: int
    seed: int
    fate: str
    probability: float | None
    weight: float | None
    shadow: bool
    setting: str = ""


class SelectionLog:
    """The logs of all trainings of a state directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER

    def path(self, version: Version, shadow: bool = False) -> Path:
        """Where the log of a version's training is."""
        return self.folder / f"{version}{SHADOW if shadow else ''}.parquet"

    @staticmethod
    def stage(folder: Path, log: pa.Table, shadow: bool = False) -> None:
        """Write the log of a training into the folder that is to be registered as its version."""
        pq.write_table(log, folder / _staged(shadow), compression="zstd")

    def collect(self, registry: Registry) -> None:
        """Copy the logs of registered versions out of their folders; what is here already stays as it is."""
        for record in registry.versions():
            for shadow in (False, True):
                source, target = record.folder / _staged(shadow), self.path(record.version, shadow)
                if source.exists() and not target.exists():
                    self.folder.mkdir(parents=True, exist_ok=True)
                    _copy(source, target)

    def read(self, version: Version, shadow: bool = False) -> pa.Table:
        """The log of a version's training, whose rows `select.replay` takes."""
        return pq.read_table(self.path(version, shadow))

    def of(self, prediction: int) -> list[Choice]:
        """What every training made of a prediction, by its position; in order of version."""
        return [choice for path in self._paths() for choice in _choices(path, prediction)]

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"), key=lambda path: (_version(path), path.name))


def _staged(shadow: bool) -> str:
    return f"{FOLDER}{SHADOW if shadow else ''}.parquet"


def _copy(source: Path, target: Path) -> None:
    """Whole, or not at all; the service and a training may both be at it."""
    aside = target.with_suffix(f".{os.getpid()}")
    shutil.copyfile(source, aside)
    sync(aside)
    aside.replace(target)
    sync_folder(target.parent)


def _version(path: Path) -> Version:
    return Version.parse(path.name.removesuffix(".parquet").removesuffix(SHADOW))


def _choices(path: Path, prediction: int) -> Iterator[Choice]:
    offered = pq.read_table(path, columns=["prediction"]).column("prediction")
    window = pc.index(pc.list_flatten(offered), prediction).as_py()
    if window < 0:
        return
    number = pc.list_parent_indices(offered.combine_chunks())[window].as_py()
    row = pq.read_table(path).slice(number, 1).to_pylist()[0]
    place = row["prediction"].index(prediction)
    chosen = [k for k, index in enumerate(row["index"]) if index == place]
    fate = "chosen" if chosen else "trimmed" if place in row["trimmed_index"] else "passed over"
    yield Choice(
        str(_version(path)), row["rule"], row["window"], row["seed"], fate,
        row["prob"][chosen[0]] if chosen and row["prob"] is not None else None,
        sum(row["weight"][k] for k in chosen) if chosen else None, path.name.endswith(f"{SHADOW}.parquet"),
        str(from_settings(json.loads(row["settings"]))),
    )  # fmt: skip
