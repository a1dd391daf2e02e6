"""`nearline tune`: whether anything is better than what history teaches, and by how much."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from nearline import config as configs
from nearline._errors import ConfigError
from nearline.cli import _fit, _progress, _show, _training
from nearline.config import Config
from nearline.config._learning import how
from nearline.tune import Gap, Tuned, fragment, tune, written

FOLDER = "tune"
"""Where trials are kept below the state directory."""


def run(file: Path, trials: int | None, seed: int | None, on: str | None, write: bool, as_object: bool) -> None:
    """Search, show what was found, and write it into the file where that is asked for and worth it."""
    config = configs.load(file)
    settings = config.tables.tune
    chosen, rest = how(config.tables.fit.priors), settings.structures
    structures = (chosen["structure"], *(s for s in ("full", "diagonal") if rest and s != chosen["structure"]))
    with _progress.phases(as_object) as say:
        found = tune(
            config.model(), events(config, on or settings.on), trials=settings.trials if trials is None else trials,
            share=settings.share, seed=settings.seed if seed is None else seed, every=settings.every,
            structures=structures, pruning=settings.pruning, folder=folder(config), priors=chosen, progress=say,
        )  # fmt: skip
    wrote = write and found.worth_it
    if wrote:
        _replace(file, found)
    if as_object:
        print(as_json(found, wrote))
        return
    show(found, file, write, _show.console())


def folder(config: Config) -> Path:
    """Where trials are kept."""
    named = config.tables.tune.folder
    return config.running().folder / FOLDER if named is None else config.file.parent / Path(named).expanduser()


def events(config: Config, on: str) -> Any:
    """The newest rows of `[data]`, or of what the ledger says was learned."""
    if on == "ledger":
        with _training.registry_of(config) as registry:
            table = _fit.history(config, registry, "ledger", None)[0][0]
    else:
        table = config.table()
    return table.slice(max(0, table.num_rows - config.tables.tune.rows))


def show(found: Tuned, file: Path, write: bool, console: Console) -> None:
    """Both settings side by side, what changed, and what to do."""
    console.print(_losses(found))
    if found.changed():
        console.print(_changes(found))
    console.print(conclusion(found), style="bold")
    if not found.worth_it:
        return
    if write:
        console.print(f"{file} is updated: [fit.priors] and [backtest.priors]")
        return
    console.print(f"to use it, run again with --write, or put these lines into {file}:\n")
    console.print(fragment(found))


def _losses(found: Tuned) -> Table:
    pruned = sum(not trial.complete for trial in found.trials)
    title = f"{len(found.trials)} trials on {found.rows:,} rows: {found.reused} from earlier searches, {pruned} pruned"
    table = _table(title, "setting", "searched rows", "held-out rows", "gain", "95 % interval")
    gap = found.gap
    table.add_row("defaults (learned from history)", f"{found.defaults.loss:.5f}", f"{gap.before:.5f}", "", "")
    table.add_row(
        f"best (trial {found.best.number})", f"{found.best.loss:.5f}", f"{gap.after:.5f}", f"{gap.estimate:+.2%}",
        interval(gap),
    )  # fmt: skip
    return table


def _changes(found: Tuned) -> Table:
    table = _table("What the best trial changes", "setting", "default", "best", "importance")
    for name, default, best in found.changed():
        weight = found.importance.get(name)
        table.add_row(name, value(name, default), value(name, best), "" if weight is None else f"{weight:.0%}")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    return table


def interval(gap: Gap) -> str:
    """The interval of a gain, in percent."""
    return f"{gap.low:+.2%} to {gap.high:+.2%}"


def value(name: str, setting: float | str) -> str:
    """A setting in words: a factor on what was learned, a half-life in days.

    >>> value("user: variance of *", 2.0), value("user: half_life", 86400.0), value("fixed: half_life", float("inf"))
    ('x 2', '1 d', 'never')
    """
    if isinstance(setting, str):
        return setting
    if "half_life" in name:
        return f"{setting / 86_400:.3g} d" if setting < float("inf") else "never"
    return f"x {setting:.3g}" if "variance" in name else f"{setting:.3g}"


def conclusion(found: Tuned) -> str:
    """One sentence that says whether the search is worth it."""
    gap = found.gap
    if found.best is found.defaults:
        return "Nothing that was tried beats what history teaches: keep the defaults."
    told = f"the best trial gains {gap.estimate:+.2%} of the loss on rows it was not chosen on ({interval(gap)})"
    return f"Worth it: {told}." if found.worth_it else f"Not worth it: {told}; keep the defaults."


def as_json(found: Tuned, wrote: bool) -> str:
    """Everything that is shown, in one line; an infinite half-life is a string."""
    gap = found.gap
    changed = {name: {"default": _plain(default), "best": _plain(best)} for name, default, best in found.changed()}
    return json.dumps({
        "trials": len(found.trials), "reused": found.reused, "complete": sum(t.complete for t in found.trials),
        "rows": found.rows, "loss": {"defaults": found.defaults.loss, "best": found.best.loss},
        "held_out": {"defaults": gap.before, "best": gap.after, "gain": gap.estimate, "low": gap.low, "high": gap.high},
        "worth_it": found.worth_it, "changed": changed, "importance": found.importance, "written": wrote,
        "toml": fragment(found) if found.worth_it else None, "conclusion": conclusion(found),
    })  # fmt: skip


def _plain(setting: float | str) -> float | str:
    return "never" if setting == float("inf") else setting


def _replace(file: Path, found: Tuned) -> None:
    try:
        file.write_text(written(file.read_text("utf-8"), found), "utf-8")
    except OSError as error:
        raise ConfigError(f"--write: cannot write {file}: {error}") from error
