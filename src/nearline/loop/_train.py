"""One pass of a network over what came since its last training: choose, load, learn; and the log of what was chosen."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline._errors import NearlineWarning
from nearline.glmix._links import by_name
from nearline.loop._offered import Offered
from nearline.select import Policy, SelectorState, from_settings

if TYPE_CHECKING:
    from nearline.deep import Network

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Training:
    """How a network goes on being trained.

    Attributes
    ----------
    policy, budget, window
        Which rows of each window of so many predictions are trained on.
    seed
        Of every draw, with the number of its window.
    shadow
        Another policy, whose network is trained beside for comparison.
    sketch
        Length of the recorded gradient sketches that are read; 0 reads none.
    slices, leverage
        Recorded column whose values are slices, and recorded columns whose leverage in the network counts; where a
        policy goes by them.
    """

    policy: Policy
    budget: float | int = 0.1
    window: int = 10_000
    seed: int = 0
    shadow: Policy | None = None
    sketch: int = 0
    slices: str | None = None
    leverage: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trainee:
    """A network, what its selector remembers, and how many windows it has been through."""

    network: Network
    state: SelectorState
    windows: int = 0


def train(trainee: Trainee, offered: Offered, policy: Policy, training: Training) -> tuple[Trainee, pa.Table]:
    """Train on what the policy chooses of every window; the trainee after it, and the log of the windows.

    Features are loaded of the chosen rows alone. The log is that of `select.log_table` with the mean `loss` of the
    chosen rows and the position of every `prediction` of the window; `select.replay` makes each choice again.

    Raises
    ------
    StateError
        A loss is not finite.

    Warns
    -----
    NearlineWarning
        The rule balances gradient sketches, and some examples have none.
    """
    from nearline.deep import Window, retrain

    predictions: list[Ints] = []

    def windows() -> Iterator[Window]:
        for rows, scores in offered.windows(training.window):
            predictions.append(offered.prediction[rows])
            yield Window(scores, partial(_load, offered, rows), offered.leverage(rows) if policy.leveraged else None)

    done = retrain(
        trainee.network, windows(), policy, training.budget, seed=training.seed, first=trainee.windows,
        state=trainee.state,
    )  # fmt: skip
    log = done.log_table().append_column("prediction", pa.array(predictions, pa.list_(pa.int64())))
    _warn_of_unsketched(log, training.sketch)
    return Trainee(done.network, done.state, trainee.windows + len(predictions)), log


def _warn_of_unsketched(log: pa.Table, length: int) -> None:
    missing, offered = (int(np.sum(log.column(name).to_numpy())) for name in ("unsketched", "n"))
    if missing:
        warnings.warn(
            f"{missing:,} of {offered:,} examples have no gradient sketch of {length} numbers and were balanced at the "
            "mean of their window; a service records sketches from its next start with this nearline.toml on",
            NearlineWarning,
            stacklevel=3,
        )


def _load(offered: Offered, rows: Ints, index: Ints) -> pa.Table:
    return offered.load(rows[index])


def summary(log: pa.Table) -> dict[str, float | str]:
    """What a log of windows comes to: rows offered and chosen, weights, and how far records were trusted at the end."""
    counts = ("held", "trimmed", "effective", "unsketched")
    totals = {name: float(np.sum(log.column(name).to_numpy())) for name in counts}
    last = log.slice(log.num_rows - 1).to_pylist()[0]
    largest = max((float(max(weight, default=0.0)) for weight in log.column("weight").to_pylist()), default=0.0)
    return {
        "rule": last["rule"], "setting": str(from_settings(json.loads(last["settings"]))),
        "seen": float(np.sum(log.column("rows").to_numpy())),
        "chosen": float(np.sum(log.column("b").to_numpy())), "windows": float(log.num_rows), **totals,
        "largest_weight": largest,
        **{name: last[name] for name in ("uniform_share", "kappa", "lag") if not np.isnan(last[name])},
    }  # fmt: skip


def quality(network: Network, table: pa.Table) -> dict[str, float]:
    """How a network alone predicts rows that it has not learned: mean loss, sums of what was predicted and happened."""
    link = by_name(network.link)
    design, _ = network.design(table, learn=False)
    label = np.asarray(table.column(network.schema.label).to_numpy(), np.float64)
    margin = network.decision_function(design)
    return {
        "examples": float(len(label)), "loss": float(np.mean(link.loss(label, margin))),
        "predicted": float(np.sum(link.mean(margin))), "happened": float(np.sum(label)),
    }  # fmt: skip


def following(before: dict[str, float] | None, now: dict[str, float]) -> dict[str, float]:
    """Two measurements on rows that follow one another, as one over all of them.

    >>> one = {"examples": 1.0, "loss": 1.0, "predicted": 0.5, "happened": 1.0}
    >>> following(one, {"examples": 3.0, "loss": 2.0, "predicted": 1.5, "happened": 1.0})
    {'examples': 4.0, 'loss': 1.75, 'predicted': 2.0, 'happened': 2.0}
    """
    if not before:
        return now
    total = {name: before[name] + now[name] for name in ("examples", "predicted", "happened")}
    lost = before["loss"] * before["examples"] + now["loss"] * now["examples"]
    return {
        "examples": total["examples"], "loss": lost / total["examples"], "predicted": total["predicted"],
        "happened": total["happened"],
    }  # fmt: skip
