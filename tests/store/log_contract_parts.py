"""Logs on disk and in memory, with small segments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from store_rows import SCHEMA

from nearline.store import Log, MemoryLog

SMALL = {"segment_rows": 7, "memory_bytes": 0}
Make = Callable[[Path], Any]
MAKES: dict[str, Make] = {
    "disk": lambda folder: Log.open(folder, SCHEMA),
    "disk with small segments": lambda folder: Log.open(folder, SCHEMA, **SMALL),
    "memory": lambda folder: MemoryLog(SCHEMA),
}
