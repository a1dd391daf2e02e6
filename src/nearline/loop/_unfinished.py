"""One training at a time, and what is left of one that was killed: enough for the next to finish it.

    training/lock               held (flock) by the training at work; however its process ends, it gives it back
    training/unfinished.json    the version it was about to register, and what was live when it began

The mark is written before the version is registered and goes when the training has ended by itself: published, refused
or failed. So what was trained is published once, and no stretch of the ledger is trained on again for it.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from types import TracebackType

import msgspec

from nearline._errors import StateError
from nearline.store import Version
from nearline.store._folder import remove, written_aside

FOLDER, PAUSE_SECONDS = "training", 0.05


@dataclass(frozen=True, slots=True)
class Left:
    """A training that did not come to its end: the version that it made, and what was live when it began."""

    version: Version
    live: Version


class Unfinished:
    """The training at work in a state directory; a context manager.

    A block that ends, with an error or without, has finished. Only a process that is killed or interrupted leaves what
    it marked.

    Raises
    ------
    StateError
        Another training is at work.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with Unfinished(Path(folder.name)) as work:
    ...     work.mark(Version(2), live=Version(1, 0, 400))
    ...     work.left()
    Left(version=Version(whole=2, batch=0, nearline=0), live=Version(whole=1, batch=0, nearline=400))
    >>> was_left(Path(folder.name)) is None
    True
    >>> folder.cleanup()
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._mark = folder / FOLDER, folder / FOLDER / "unfinished.json"

    def __enter__(self) -> Unfinished:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if not _locked(self._handle, tries=10):  # whoever looks (`was_left`) holds it for a moment
            os.close(self._handle)
            raise StateError(
                f"{self._folder.parent}: another training is at work; wait for it, or end it (what it made is kept)"
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is None or issubclass(kind, Exception):
            remove(self._mark)
        os.close(self._handle)

    def mark(self, version: Version, live: Version) -> None:
        """Say, durably, what is about to be registered and published."""
        with written_aside(self._mark) as aside:
            aside.write_bytes(msgspec.json.encode({"version": str(version), "live": str(live)}))

    def left(self) -> Left | None:
        """What the last training has left, where it was killed or interrupted."""
        if not self._mark.exists():
            return None
        found = msgspec.json.decode(self._mark.read_bytes())
        return Left(Version.parse(found["version"]), Version.parse(found["live"]))


def was_left(folder: Path) -> float | None:
    """When a training was marked that is not at work any more and never ended; None where there is none."""
    mark, lock = folder / FOLDER / "unfinished.json", folder / FOLDER / "lock"
    if not mark.exists() or not lock.exists():
        return None
    handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        return mark.stat().st_mtime if _locked(handle) and mark.exists() else None
    finally:
        os.close(handle)


def _locked(handle: int, tries: int = 1) -> bool:
    for left in reversed(range(tries)):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            sleep(PAUSE_SECONDS if left else 0.0)
    return False
