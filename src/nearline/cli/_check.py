"""`nearline check`: what of a table can be learned, what is refused and why."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.console import Console

from nearline import config as configs
from nearline.glmix import GLMix
from nearline.schema import Checked

# Reasons and rows that are shown; the dead-letter file has them all.
SHOWN = 10


def run(file: Path, data: list[str], dead_letter: Path | None, as_object: bool) -> None:
    """Check the rows of `data` (or of the file's own `[data]`), say what is wrong, put bad rows aside if asked to."""
    config = configs.load(file)
    table = config.read(data)
    config.deep(table)
    model = config.linear()
    checked = model.encoder.check(table, link=model.link, need_label=True, divert=True)
    written = checked.rejects.write(dead_letter) if dead_letter is not None else None
    found = summary(model, table, checked, written)
    if as_object:
        print(json.dumps(found))
    else:
        _show(found, checked)
    if len(checked.rejects):
        raise typer.Exit(1)


def summary(model: GLMix, table: Any, checked: Checked, written: Path | None) -> dict[str, Any]:
    """What `--json` prints."""
    kinds = {name: type(model.schema.kind(name, table[name].type)).__name__.lower() for name in model.encoder.features}
    late = np.flatnonzero(np.diff(checked.time) < 0)
    return {
        "rows": table.num_rows, "usable": checked.rows, "refused": len(checked.rejects), "columns": kinds,
        "reasons": dict(Counter(checked.rejects.reasons).most_common()), "in_order": not len(late),
        "dead_letter": str(written) if written is not None else None,
    }  # fmt: skip


def _show(found: dict[str, Any], checked: Checked) -> None:
    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print(f"{found['usable']:,} of {found['rows']:,} rows can be learned")
    for name, kind in found["columns"].items():
        console.print(f"  {name}: {kind}")
    for row, reason in list(zip(checked.rejects.rows.tolist(), checked.rejects.reasons))[:SHOWN]:
        console.print(f"row {row}: {reason}", style="red")
    if len(checked.rejects) > SHOWN:
        console.print(f"... and {len(checked.rejects) - SHOWN:,} more rows", style="red")
    if not found["in_order"]:
        console.print("rows are not in order of time; the backtest needs them so: set [data] sort = true")
    if found["dead_letter"]:
        console.print(f"refused rows: {found['dead_letter']}")
