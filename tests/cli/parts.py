"""The `nearline` command, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

CONFIG = """
[data]
path = "events.parquet"

[schema]
label = "clicked"
time = "timestamp"

[fixed]
on = ["country"]

[[random]]
key = "ad_id"

[backtest]
history = 0.2
title = "ads"
truth = "true_probability"
priors = { rounds = 1, structure = "scalar" }
variants = [
    { name = "stale", learns = "nothing" },
    { name = "refit", learns = "nothing", refit = 400 },
    { name = "fresh" },
]
"""
TRACEBACK = "Traceback (most recent call last)"


def nearline(
    *arguments: object, folder: Path, data: Path | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder`; NEARLINE_DATA is `data`, or not set."""
    environment = {name: value for name, value in os.environ.items() if name != "NEARLINE_DATA"}
    environment |= {"NEARLINE_DATA": str(data)} if data is not None else {}
    command = [sys.executable, "-c", "from nearline.cli import main; main()", *map(str, arguments)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command, cwd=folder, env=environment, text=True, check=False, timeout=300, **options)
