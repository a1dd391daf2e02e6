"""Training on what is worth it: rows are chosen by what serving recorded, before any feature is loaded.

    for each window:  choose b of n by the recorded scores → load those b → one weighted pass → tell the selector how
    far their fresh scores were from the recorded ones

A window costs b forward passes and b backward passes, none of them to choose (arXiv 2104.13114).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline._errors import DataError
from nearline.deep._information import Information
from nearline.deep._network import Network
from nearline.schema import read_table
from nearline.select import Cost, Policy, Rule, Scores, SelectorState, choose, log_table


@dataclass(frozen=True, slots=True)
class Window:
    """Labelled rows as recorded, and how to get the features of some of them.

    Attributes
    ----------
    scores
        What was recorded of each row, priced with its label; see `Information.scores`.
    load
        From row numbers within the window, ascending, to a table (or design) of those rows with their labels.
    leverage
        The embedded columns of all rows whose `Network.leverage` the selector goes by, as a table. It is that of the
        network as the windows before have left it.
    """

    scores: Scores
    load: Callable[[NDArray[np.int64]], Any]
    leverage: Any = None


@dataclass(frozen=True, slots=True)
class Retrained:
    """What `retrain` made.

    Attributes
    ----------
    network
        The trained network; its `passes` are those of this training alone.
    state
        What the selector remembers, for the next windows.
    log
        One row per window, as `select.choose` writes them and `select.replay` repeats them, with the mean `loss` of
        the chosen rows (weighted, each as it was just before the step that used it).
    """

    network: Network
    state: SelectorState
    log: list[dict[str, Any]]

    def log_table(self) -> Any:
        """The log as an Arrow table."""
        table = log_table([{name: row[name] for name in row if name != "loss"} for row in self.log])
        return table.append_column("loss", [[row["loss"] for row in self.log]])


def retrain(
    network: Network,
    windows: Iterable[Window],
    selector: Rule | Policy,
    budget: int | float | Cost,
    *,
    seed: int = 0,
    first: int = 0,
    state: SelectorState | None = None,
) -> Retrained:
    """Train a copy of a network on chosen rows of window after window; the network given stays as it is.

    Parameters
    ----------
    windows
        In order. All rows since the last training in one window is the pool mode.
    selector
        A rule of `nearline.select`, or a policy around one.
    budget
        Rows to train on per window: a count, a ratio, or a `Cost` in forward passes.
    seed, first
        The draw of a window follows from the seed and its number; `first` is that of the first window.
    state
        What the selector remembers of earlier windows.

    Raises
    ------
    DataError
        `load` gave another number of rows than it was asked for.
    StateError
        A loss is not finite.

    Examples
    --------
    >>> from nearline import Schema, select
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=400)
    >>> rows = {"x": x, "y": (rng.random(400) < 1 / (1 + np.exp(-x))).astype(int)}
    >>> network = Network(Schema(label="y"), ["x"])
    >>> start = network.partial_fit({name: values[:100] for name, values in rows.items()})
    >>> scores = network.information(rows).scores(rows["y"])       # paid for by serving
    >>> window = Window(scores, lambda index: {name: values[index] for name, values in rows.items()})
    >>> done = retrain(network, [window], select.by_name("pps"), 0.1)
    >>> done.network.passes, done.log[0]["b"]
    (Passes(forwards=40, backwards=40), 40)
    """
    twin, memory, log = network.fork(), state or SelectorState(), []
    for number, window in enumerate(windows, first):
        scores = _leveraged(window, twin)
        chosen, row = choose(selector, scores, budget, window=number, seed=seed, state=memory)
        memory = chosen.state
        row["loss"] = float("nan")
        if len(chosen):
            design, _ = twin.design(window.load(chosen.index), learn=True)
            if design.rows != len(chosen):
                raise DataError(f"load gave {design.rows} rows for {len(chosen)}", fix="give every row that was chosen")
            trained = twin.partial_fit(design, weight=chosen.weight)
            fresh = Information(trained.margin, trained.norm, None, None, twin.link).score(design.label)
            memory = selector.learn(memory, chosen, fresh)
            row["loss"] = trained.loss[0]
        log.append(row)
    return Retrained(twin, memory, log)


def _leveraged(window: Window, network: Network) -> Scores:
    """What is known of the rows of a window now that it comes."""
    if window.leverage is None:
        return window.scores
    table = read_table(window.leverage)
    return replace(window.scores, leverage=network.leverage(table, table.column_names))
