"""Logs as files: the one being written, a process that has one, and rows of few bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

HERE = Path(__file__).parent


def open_file(folder: Path) -> Path:
    """The active segment."""
    return max(folder.glob("*.arrow"))


def child(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """A Python process with the names of the tests."""
    lead = (
        "import sys, os\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "from store_rows import SCHEMA, batch, filled, values\n"
        "from nearline import StateError\nfrom nearline.store import Log\n"
    )
    command = [sys.executable, "-c", lead + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def ran(code: str, *arguments: object, **options: Any) -> str:
    """What a child says that ends well."""
    with child(code, *arguments, **options) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip()


def narrow(*numbers: int) -> Any:
    """A batch of one column, so that every byte can be tried."""
    return pa.record_batch([pa.array(numbers, pa.int64())], names=["n"])
