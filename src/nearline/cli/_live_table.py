"""What a person watches while the demo runs: a table on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table

from nearline.cli._drive import Seen
from nearline.simulate import Traffic

EVERY, IN_A_LOG = 1.0, 10
WIDTH = 12


@dataclass
class Board:
    """The newest status, and one row per look at it."""

    last: dict[str, Any] = field(default_factory=dict)
    rows: list[tuple[str, ...]] = field(default_factory=list)


@contextmanager
def shown(url: str, seen: Seen, traffic: Traffic, console: Console, plain: bool) -> Iterator[Board]:
    """Look at the service once a second, and show what it says, until the block ends."""
    board, stop = Board(), threading.Event()
    live = Live(console=console, auto_refresh=False, transient=False) if console.is_terminal and not plain else None
    watcher = threading.Thread(target=_watch, args=(url, seen, traffic, console, board, stop, live), daemon=True)
    if live is not None:
        live.start()
    watcher.start()
    try:
        yield board
    finally:
        stop.set()
        watcher.join()
        if live is not None:
            live.stop()


def _watch(
    url: str, seen: Seen, traffic: Traffic, console: Console, board: Board, stop: threading.Event, live: Live | None
) -> None:
    from nearline.cli._live_demo import status_of

    began, told = time.monotonic(), -IN_A_LOG
    while True:
        stopped = stop.wait(EVERY - (time.monotonic() - began) % EVERY)
        second = round(time.monotonic() - began)
        found = status_of(url)
        if found is not None:
            board.last = found
            row = _row(second, found, seen, traffic)
            if board.rows and board.rows[-1][0] == row[0]:
                board.rows.pop()
            board.rows.append(row)
            if live is not None:
                live.update(_table(board.rows[-WIDTH:]), refresh=True)
            elif board.rows[-1][-1] or stopped or second >= told + IN_A_LOG:
                if len(board.rows) == 1:
                    console.print(_line(HEADINGS))
                console.print(_line(board.rows[-1]))
                told = second - second % IN_A_LOG
        if stopped:
            return


HEADINGS = ("time", "version", "rows/s", "outcomes/s", "fresh p99", "live", "stale", "best", "")
WIDTHS = (6, 12, 6, 10, 9, 6, 6, 6, 0)
CAPTION = (
    "log loss of the newest events: live learns, stale does not, best knows the truth\n"
    "fresh p99: outcome acknowledged to used, last minute"
)


def _row(second: int, status: dict[str, Any], seen: Seen, traffic: Traffic) -> tuple[str, ...]:
    quality, traffic_now = status["quality"], status.get("traffic", {})
    wait = status["freshness"]["p99_ms"]
    best = seen.log_loss(max(0.0, second - 10.0))["best"]
    return (
        f"{second} s", status["model"]["version"], _number(traffic_now.get("rows_per_s"), "{:,.0f}"),
        _number(traffic_now.get("outcomes_per_s"), "{:,.0f}"), _number(wait, "{:.0f} ms"),
        _number(quality["live"]["log_loss"], "{:.4f}"), _number(quality["stale"]["log_loss"], "{:.4f}"),
        _number(best, "{:.4f}"), _event(second, traffic),
    )  # fmt: skip


def _number(value: float | None, form: str) -> str:
    return "" if value is None or value != value else form.format(value)


def _event(second: int, traffic: Traffic) -> str:
    for at, words in ((traffic.shock_at, "tastes change"), (traffic.cold_start_at, "new ads")):
        if at is not None and second - 1 < at <= second:
            return f"\N{LEFTWARDS ARROW} {words}"
    return ""


def _line(cells: tuple[str, ...]) -> str:
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, WIDTHS)).rstrip()


def _table(rows: list[tuple[str, ...]]) -> Table:
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1), caption=CAPTION, caption_justify="left", min_width=78
    )
    for name in HEADINGS:
        style = {"live": "bold", "": "yellow"}.get(name, "")
        table.add_column(name, justify="right" if name else "left", no_wrap=True, style=style)
    for row in rows:
        table.add_row(*row)
    return table
