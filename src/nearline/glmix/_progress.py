"""A progress bar for work that a person waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[float], None]]:
    """Show a bar on standard error; call the yielded function after each step with the latest figure.

    The total is a guess: the bar stretches when the work does.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figure]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total, figure="")
        steps = 0

        def tick(figure: float) -> None:
            nonlocal steps
            steps += 1
            progress.update(task, completed=steps, total=max(total, steps + 1), figure=f"{figure:.5f}")

        yield tick
