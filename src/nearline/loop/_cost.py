"""What scoring costs: models side by side on the same requests, in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from nearline.deep import RECORDED
from nearline.glmix import GLMix, Scorer
from nearline.loop._events import events

ROWS, TURNS = 20, 400


def latencies(models: Sequence[GLMix], taken: pa.Table, clock: Callable[[], float]) -> list[float]:
    """p99 of scoring a request of `ROWS` rows, seconds for each model.

    Parameters
    ----------
    taken
        Rows of the predictions log: requests as they were. They are scored again and again, `TURNS` times by each
        model in turn, so that what else the machine does slows down all of them.
    clock
        Seconds; of processor time (`time.thread_time`) where the machine does other things as well.
    """
    # A network must not be spared the pass that serving makes.
    taken = taken.select([name for name in taken.column_names if name not in RECORDED.names])
    scorers = [Scorer(model, "") for model in models]
    requests = [taken.slice(at, ROWS) for at in range(0, max(taken.num_rows - ROWS, 0) + 1, ROWS)]
    spent = np.zeros((len(models), TURNS))
    for turn in range(-1, TURNS):  # once before it counts
        request = requests[turn % len(requests)]
        for k, scorer in enumerate(scorers):
            began = clock()
            design, _ = scorer.model.design(pa.table(events(request, scorer.model)), learn=False)
            scorer.score(design)
            spent[k, turn] = clock() - began
    return [float(np.quantile(times, 0.99)) for times in spent]


def size(folder: Path) -> float:
    """Bytes of a saved model, without what a training keeps with it: its log, and a network for comparison."""
    kept = (path for path in folder.rglob("*") if path.is_file() and not _kept_beside(path.relative_to(folder)))
    return float(sum(path.stat().st_size for path in kept))


def _kept_beside(path: Path) -> bool:
    return path.parts[0] in ("training.json", "shadow") or path.suffix == ".parquet"
