"""What the operating system or Arrow complained about, as a `StateError` that names the file, the place and the fix."""

from __future__ import annotations

import errno
from pathlib import Path

from nearline._errors import StateError

_FIXES = {
    errno.ENOSPC: "the disk is full; free space or lower the retention, then go on: what was acknowledged is kept",
    errno.EDQUOT: "the disk quota is used up; raise it or lower the retention",
    errno.EFBIG: "the file may not grow (a limit of the process or file system); raise the limit",
    errno.EROFS: "the file system is read-only; mount it writable or open the log with read_only=True",
    errno.EACCES: "no permission; give this user the right to write there, or open the log with read_only=True",
    errno.EPERM: "no permission; give this user the right to write there, or open the log with read_only=True",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
    errno.EIO: "the device failed to read or write; check it before going on",
}


def refused(path: Path, doing: str, error: OSError) -> StateError:
    """What the system refused to do with a file, and what to do about it."""
    fix = _FIXES.get(error.errno or 0, "")
    return StateError(f"{path}: cannot {doing}: {error.strerror or error}{'; ' + fix if fix else ''}")


def gone(error: FileNotFoundError) -> StateError:
    """A file that was there when the log was opened."""
    return StateError(f"{error.filename or error}: the file is gone; restore it from a copy")


def damaged(path: Path, where: str, problem: str) -> StateError:
    """Bytes that are not what was written."""
    return StateError(f"{path}, {where}: {problem}; restore the file from a copy, or move it and all later ones away")
