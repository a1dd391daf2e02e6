"""One row of the selection log per window: enough to make the same choice again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from nearline._errors import StateError
from nearline.select._policy import Policy, from_settings
from nearline.select._rule import Rule
from nearline.select._scores import Scores
from nearline.select._selection import Cost, Selection, rows_of
from nearline.select._state import SelectorState


def choose(
    selector: Rule | Policy,
    scores: Scores,
    budget: int | float | Cost,
    *,
    window: int,
    seed: int,
    state: SelectorState | None = None,
) -> tuple[Selection, dict[str, Any]]:
    """A choice and its row of the log; the draw's randomness is that of (seed, window).

    Returns
    -------
    chosen : Selection
        See there.
    row : dict
        window, seed, budget, rows (of the window), the report's fields, settings and their key, the state before
        (JSON), index, prob, weight, trimmed_index; and the leverage (n) where the rule goes by it, since that is the
        trainer's and no record has it.

    Examples
    --------
    >>> from nearline.select import by_name
    >>> scores = Scores(score=np.arange(100.0))
    >>> chosen, row = choose(by_name("pps"), scores, 0.1, window=7, seed=1)
    >>> replay(row, scores).index.tolist() == row["index"]
    True
    """
    chosen = selector(scores, budget, np.random.default_rng((seed, window)), state)
    eligible = len(scores) - chosen.report.held - chosen.report.trimmed
    return chosen, {
        "window": window,
        "seed": seed,
        "budget": rows_of(budget, eligible),
        "rows": len(scores),
        **asdict(chosen.report),
        "settings": json.dumps(selector.settings(), sort_keys=True),
        "key": selector.key,
        "state": None if state is None else state.to_json(),
        "index": chosen.index.tolist(),
        "prob": None if chosen.prob is None else chosen.prob.tolist(),
        "weight": chosen.weight.tolist(),
        "trimmed_index": chosen.trimmed.tolist(),
        "leverage": scores.leverage.tolist() if selector.leveraged else None,
    }


def replay(row: Mapping[str, Any], scores: Scores) -> Selection:
    """The logged choice made again from the window's scores: the same rows, probabilities and weights to the bit.

    Leverages that are not among the scores are those of the row.

    Raises
    ------
    StateError
        It comes out differently: other scores, or another release with another draw.
    """
    selector = from_settings(json.loads(row["settings"]))
    state = None if row["state"] is None else SelectorState.from_json(row["state"])
    rng = np.random.default_rng((row["seed"], row["window"]))
    if scores.leverage is None and row.get("leverage") is not None:
        scores = replace(scores, leverage=row["leverage"])
    chosen = selector(scores, row["budget"], rng, state)
    if chosen.index.tolist() != list(row["index"]) or chosen.weight.tolist() != list(row["weight"]):
        raise StateError(f"window {row['window']} comes out differently: these are not the scores it was chosen from")
    return chosen


def log_table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """The rows as an Arrow table, whose `to_pylist` `replay` takes again."""
    import pyarrow as pa

    ints, floats = pa.list_(pa.int64()), pa.list_(pa.float64())
    kinds = {"settings": pa.string(), "key": pa.string(), "state": pa.string(), "index": ints, "prob": floats}
    kinds |= {"weight": floats, "trimmed_index": ints, "leverage": floats, "rule": pa.string(), "alarm": pa.bool_()}
    whole = ("window", "seed", "budget", "rows", "n", "b", "unknown", "stale", "trimmed", "held", "unsketched")
    kinds |= {name: pa.int64() for name in whole}
    kinds |= {name: pa.float64() for name in ("uniform_share", "kappa", "gap", "effective", "lag", "age")}
    return pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema(list(kinds.items())))
