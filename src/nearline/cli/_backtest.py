"""`nearline backtest`: from a file to a table and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nearline import config as configs
from nearline._errors import ConfigError
from nearline.cli import _progress, _show
from nearline.config import Config
from nearline.evaluate import Backtest


def run(file: Path, rows: int | None, report: Path | None, as_object: bool) -> None:
    """Replay the events of a `nearline.toml` and show what came out."""
    config = configs.load(file)
    replay(config, config.table(rows), report or config.report(), as_object)


def replay(config: Config, table: Any, report: Path, as_object: bool) -> None:
    """Backtest, table and report of one configuration."""
    _progress.warm_up(config, table, as_object)
    with _progress.phases(as_object) as say:
        result = config.backtest(table, progress=say)
    if as_object:
        print(_show.as_json(result, write(result, report)))
        return
    console = _show.console()
    console.print(_show.as_table(result))
    console.print(_show.conclusion(result), style="bold")
    console.print(f"report: {write(result, report)}")


def write(result: Backtest, path: Path) -> Path:
    """The report as one HTML file, in a folder that is made where it is not there yet."""
    from nearline.evaluate._report import write_report  # draws with matplotlib, half a second to import

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_report(result, path)
    except OSError as error:
        raise ConfigError(f"cannot write the report to {path}: {error}") from error
