"""The folder of a log: names of its files, one writer at a time, atomic replacement, the durable mark.

00000000000000000000.parquet     sealed segment, named by its first position
00000000000000300000.arrow       closed or active segment: an Arrow IPC stream
durable.json                     rows that were durable at the last commit; a lower bound after a power failure
lock                             held (flock) by the one writer
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nearline._errors import StateError
from nearline.store._faults import refused

_NAME = re.compile(r"(\d{20})\.(arrow|parquet)")
_MARK_BYTES = 64


def segment_path(folder: Path, first: int, kind: str) -> Path:
    """Path of the segment that begins at a position; kind is arrow or parquet."""
    return folder / f"{first:020d}.{kind}"


def segment_paths(folder: Path) -> list[tuple[int, Path]]:
    """(first position, path) of every segment by position; of two with the same name the Parquet file goes first."""
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted(
        ((int(match[1]), path) for match, path in found if match),
        key=lambda item: (item[0], item[1].suffix == ".arrow"),
    )


def sync_folder(folder: Path) -> None:
    """Make created, renamed and removed names durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync(path: Path) -> None:
    """Make what a file holds durable."""
    try:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    except OSError as error:
        raise refused(path, "make the file durable", error) from error


def remove(path: Path) -> None:
    """Remove a file, durably; one that is gone already is no fault."""
    try:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise refused(path, "remove the file", error) from error


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A path to write to; on success synced and renamed over `path`, on failure removed.

    Readers see the old file or the whole new one.
    """
    aside = path.with_name(path.name + ".tmp")
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise refused(path, "write the file", error) from error
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def lock(folder: Path) -> int:
    """Handle of the folder's lock; closing it, or the end of the process, gives the lock back.

    Raises
    ------
    StateError
        Another writer holds it, or the folder cannot be written to.
    """
    path = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise refused(path, "open the lock", error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise StateError(
            f"{folder} is already open for writing, by another process or by this one; stop the other writer, "
            "or open the log with read_only=True"
        ) from error
    return handle


def remove_leftovers(folder: Path) -> None:
    """Remove files that were being written aside when the process stopped."""
    for path in folder.glob("*.tmp"):
        remove(path)


class Mark:
    """The durable end as last committed, in `durable.json`.

    It is overwritten in place after each sync and not synced itself: whatever an interruption leaves of it was true
    when it was written. So it tells a torn tail (never acknowledged) from damage (acknowledged and gone).
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "durable.json"
        self._handle = -1

    def read(self) -> int:
        """The mark; 0 when there is none."""
        try:
            return int(json.loads(self.path.read_bytes())["durable"])
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise refused(self.path, "read the durable mark", error) from error
        except (ValueError, TypeError, KeyError) as error:
            raise StateError(
                f"{self.path} is not {{'durable': rows}}; remove it to accept what the segments hold"
            ) from error

    def write(self, end: int, *, sync: bool = False) -> None:
        """Set the mark."""
        text = json.dumps({"durable": end}).ljust(_MARK_BYTES - 1) + "\n"
        try:
            if self._handle < 0:
                self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.pwrite(self._handle, text.encode(), 0)
            if sync:
                os.fsync(self._handle)
        except OSError as error:
            raise refused(self.path, "write the durable mark", error) from error

    def close(self) -> None:
        """Give the handle back."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
