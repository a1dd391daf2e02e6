"""What a person sees while they wait: a bar on a terminal, a line per phase in a log, nothing beside JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from nearline.config import Config

# A compiled kernel warms up in less than this many seconds.
PATIENCE = 2.0
WARM_UP_ROWS = 600

Say = Callable[[str, float], None]


@contextmanager
def phases(quiet: bool) -> Iterator[Say]:
    """Yield `say(name, share)`: what is being done, and how much of the work lies behind."""
    console = Console(stderr=True, markup=False, highlight=False)
    if console.is_terminal:
        with _bar(console) as say:
            yield say
    else:
        yield _lines(console) if not quiet else lambda name, share: None


def _lines(console: Console) -> Say:
    told = {"done"}

    def say(name: str, share: float) -> None:
        if name not in told:
            console.print(f"  {_words(name)} ...")
        told.add(name)

    return say


@contextmanager
def _bar(console: Console) -> Iterator[Say]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)

        def say(name: str, share: float) -> None:
            # How long the search for priors takes is not known beforehand: the bar only moves once variants run.
            progress.update(
                task, description=_words(name), completed=share, total=1.0 if share > 0 else None, refresh=True
            )

        yield say


def _words(name: str) -> str:
    return "learning priors from history" if name == "priors" else name


def warm_up(config: Config, table: object, quiet: bool) -> None:
    """Compile or load every kernel the backtest needs, so that no variant's cost holds compile time."""
    console = Console(stderr=True, markup=False, highlight=False)
    note = Timer(PATIENCE, lambda: console.print("  compiling kernels (first run only) ..."))
    if not quiet:
        note.start()
    try:
        config.rehearse(table, WARM_UP_ROWS)
    finally:
        note.cancel()
