"""Folders of saved models: moved into their place whole, and checked by their manifest."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from nearline._errors import StateError

MANIFEST = "manifest.json"
_ASIDE = ".new-"


def checksum(folder: Path) -> str:
    """SHA-256 of a saved model's manifest.

    Raises
    ------
    StateError
        When the folder holds no manifest.
    """
    try:
        return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        raise StateError(f"{folder} holds no saved model: {MANIFEST} is missing; save one with GLMix.save") from None


def aside(versions: Path) -> Path:
    """A new folder beside the versions, to write a model into; one that a crash leaves behind is never a version."""
    return Path(tempfile.mkdtemp(prefix=f"{_ASIDE}{os.getpid()}-", dir=versions))


def move(staged: Path, target: Path) -> None:
    """Rename a folder to its place, durably. What stands there was never registered and goes."""
    if staged.resolve() == target.resolve():
        return
    if staged.stat().st_dev != target.parent.stat().st_dev:
        copy = aside(target.parent)
        shutil.copytree(staged, copy, dirs_exist_ok=True)
        shutil.rmtree(staged)
        staged = copy
    for path in (*(path for path in staged.rglob("*")), staged):
        sync(path)
    remove(target)
    staged.rename(target)
    sync(target.parent)


def remove(folder: Path) -> None:
    """Delete a folder; a crash on the way leaves no half of it under its name."""
    if folder.exists():
        gone = aside(folder.parent)
        folder.rename(gone / folder.name)
        shutil.rmtree(gone)


def leftovers(versions: Path) -> list[Path]:
    """Folders that processes left beside the versions when they ended before their time."""
    return [path for path in versions.glob(f"{_ASIDE}*-*") if not _runs(path.name.removeprefix(_ASIDE).split("-")[0])]


def _runs(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        return True
    return True


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
