"""`nearline demo --replay`: the backtest on MovieLens-1M where it is at hand, on the marketplace otherwise."""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console

from nearline import config as configs
from nearline._errors import ConfigError, StateError
from nearline.cli import _backtest
from nearline.config import Config


def run(rows: int | None, seed: int, out: Path, as_object: bool) -> None:
    """Write the demo's `nearline.toml` to `out`, run it, and say how to go on from there."""
    console = Console(stderr=True, markup=False, highlight=False, quiet=as_object, soft_wrap=True)
    config, table = movielens(rows, seed, out, console) or marketplace(rows, seed, out, console)
    _backtest.replay(config, table, config.report(), as_object)
    console.print(f"To change something, edit {config.file} and run: nearline backtest {config.file}")


def movielens(rows: int | None, seed: int, out: Path, console: Console) -> tuple[Config, Any] | None:
    """Configuration and events of MovieLens-1M, None where NEARLINE_DATA does not lead to it."""
    if not os.environ.get("NEARLINE_DATA"):
        return None
    config = configs.load(write("movielens", rows, seed, out))
    try:
        table = config.table()
    except StateError as error:
        console.print(f"No MovieLens-1M: {error}")
        return None
    console.print("MovieLens-1M: who likes which film (4 or 5 stars), event by event, in order of time.")
    return config, table


def marketplace(rows: int | None, seed: int, out: Path, console: Console) -> tuple[Config, Any]:
    """Configuration and events of the simulated marketplace."""
    config = configs.load(write("marketplace", rows, seed, out))
    console.print("A simulated marketplace: members see ads, tastes drift, ads come and go; who clicks on what?")
    return config, config.table()


def write(name: str, rows: int | None, seed: int, out: Path) -> Path:
    """The demo's configuration, cut to `rows` events, as a file that can be edited and run again."""
    text = resources.files("nearline.cli").joinpath(f"{name}.toml").read_text("utf-8")
    text = re.sub(r"(?m)^seed = \d+", f"seed = {seed}", text)
    file = out / "nearline.toml"
    try:
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(text if rows is None else _cut(text, rows), "utf-8")
    except OSError as error:
        raise ConfigError(f"--out: cannot write {file}: {error}") from error
    return file


def _cut(text: str, rows: int) -> str:
    """Fewer or more events, with refits as often within them as before."""
    before = int(re.findall(r"(?m)^(?:rows|events) = ([\d_]+)", text)[0])
    text = re.sub(r"(?m)^(rows|events) = [\d_]+", rf"\1 = {rows:_}", text)
    for refit in re.findall(r"refit = ([\d_]+)", text):
        wanted = max(1, int(refit) * rows // before)
        text = text.replace(f"refit = {refit}", f"refit = {wanted:_}").replace(f"{int(refit):,}", f"{wanted:,}")
    return text
