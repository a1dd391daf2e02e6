"""Prediction ids without an index: `tag-position`, the tag being drawn once per start of a server.

`runs.jsonl` has one line per start: its tag, when it started, and the position of its first prediction. So an id
resolves to its position by arithmetic, and the id of a prediction that a crash lost is refused although its position
has been given to another one since.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline._errors import StateError
from nearline.store._faults import refused

_TAG = re.compile(r"[a-z2-7]{8}")
_DIGITS = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)

MALFORMED = "not a prediction id"
UNKNOWN = "no run of this server gave out such an id"
LOST = "no such prediction was recorded"
EXPIRED = "the prediction is no longer kept"


@dataclass(frozen=True, slots=True)
class Run:
    """One start of a server: its tag, when (seconds since the epoch), and the position of its first prediction."""

    tag: str
    started: float
    predictions: int

    def ids(self, first: int, n: int) -> list[str]:
        """Ids of n predictions from a position on.

        >>> Run("abcdefgh", 0.0, 0).ids(7, 2)
        ['abcdefgh-7', 'abcdefgh-8']
        """
        tag = self.tag
        return [f"{tag}-{position}" for position in range(first, first + n)]

    @property
    def prefix(self) -> NDArray[np.uint8]:
        """What every id begins with, as bytes, with eight more behind that may be read."""
        return np.frombuffer(f"{self.tag}-".encode() + bytes(8), np.uint8)

    def __call__(self, first: int, n: int) -> Any:
        """The same ids as an Arrow array of strings."""
        from nearline.features._block_copy import named

        tag = self.prefix
        offsets, data = np.empty(n + 1, np.int32), np.empty(n * (len(tag) + 20) + 8, np.uint8)
        size = named(tag, first, n, offsets, 0, data, 0)
        return pa.Array.from_buffers(pa.string(), n, [None, pa.py_buffer(offsets), pa.py_buffer(data[:size])])


class Runs:
    """The starts of a server in a file of JSON lines.

    Raises
    ------
    StateError
        A line is damaged, or the system refuses. A last line without its end is an interrupted write and is cut off.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     runs = Runs(Path(folder) / "runs.jsonl")
    ...     run = runs.start(predictions=0, started=1.7e9, tag="abcdefgh")
    ...     runs.resolve(["abcdefgh-3", "abcdefgh-9", "abcdefgh-x"], first=0, end=5)
    (array([ 3, -1, -1]), {1: 'no such prediction was recorded', 2: 'not a prediction id'})
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.runs: list[Run] = []
        try:
            lines = self.path.read_bytes().split(b"\n") if self.path.exists() else [b""]
        except OSError as error:
            raise refused(self.path, "read the runs", error) from error
        for number, line in enumerate(lines[:-1]):
            self.runs.append(self._parsed(number + 1, line))
        self._whole = sum(len(line) + 1 for line in lines[:-1])
        self._index()

    def start(self, predictions: int, started: float, tag: str | None = None) -> Run:
        """Note a new run, durably; from then on its ids are known.

        Parameters
        ----------
        predictions
            Position of its first prediction: the end of the log of predictions.
        started
            Seconds since the epoch.
        tag
            Eight characters of a-z2-7; drawn at random when None.
        """
        run = Run(tag or base64.b32encode(secrets.token_bytes(5)).decode().lower(), started, predictions)
        if not _TAG.fullmatch(run.tag) or run.tag in self._bounds:
            raise StateError(f"{self.path}: {run.tag!r} is no tag, or one of an earlier run; leave it out to draw one")
        if self.runs and predictions < self.runs[-1].predictions:
            raise StateError(
                f"{self.path}: a run cannot start at prediction {predictions}, the last one started at "
                f"{self.runs[-1].predictions}; the log of predictions has lost rows"
            )
        line = json.dumps({"tag": run.tag, "started": started, "predictions": predictions}) + "\n"
        self._append(line.encode())
        self.runs.append(run)
        self._index()
        return run

    def resolve(self, ids: Sequence[Any], *, first: int, end: int) -> tuple[NDArray[np.int64], dict[int, str]]:
        """Position of every id, −1 where it is refused, and the reasons by row.

        Parameters
        ----------
        first, end
            What the log of predictions holds.
        """
        found, reasons = [], {}
        bounds = self._bounds
        for row, name in enumerate(ids):
            try:
                tag, position = name[:8], int(name[9:])
                begin, stop = bounds[tag]
                # Written anew, so that an id has one spelling.
                good = first <= position < end and begin <= position < stop and name == f"{tag}-{position}"
            except (TypeError, ValueError, KeyError):
                good = False
            if good:
                found.append(position)
            else:
                found.append(-1)
                reasons[row] = self._reason(name, first, end)
        return np.array(found, np.int64), reasons

    def run_of(self, position: int) -> Run:
        """The run that made a prediction."""
        later = bisect_left(self.runs, position + 1, key=lambda run: run.predictions)
        if not later:
            raise StateError(f"{self.path}: no run made prediction {position}")
        return self.runs[later - 1]

    def _reason(self, name: Any, first: int, end: int) -> str:
        if (
            not isinstance(name, str)
            or name[8:9] != "-"
            or not _TAG.fullmatch(name[:8])
            or not _DIGITS.fullmatch(name[9:])
        ):
            return MALFORMED
        if name[:8] not in self._bounds:
            return UNKNOWN
        begin, stop = self._bounds[name[:8]]
        return EXPIRED if begin <= int(name[9:]) < min(first, stop) else LOST

    def _index(self) -> None:
        """Positions that each run's ids may have: to where the next one starts."""
        stops = [run.predictions for run in self.runs[1:]] + [1 << 62]
        self._bounds = {run.tag: (run.predictions, stop) for run, stop in zip(self.runs, stops)}

    def _parsed(self, number: int, line: bytes) -> Run:
        try:
            run = Run(**json.loads(line))
            last = self.runs[-1].predictions if self.runs else 0
            if not _TAG.fullmatch(run.tag) or run.predictions < last:
                raise ValueError("tag or position out of order")
        except (ValueError, TypeError) as error:
            raise StateError(
                f"{self.path}, line {number}: not a run ({error}); restore the file from a copy"
            ) from error
        return run

    def _append(self, line: bytes) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                # An interrupted write, or the one of a disk that was full, goes first.
                file.truncate(self._whole)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise refused(self.path, "note the run", error) from error
        self._whole += len(line)
