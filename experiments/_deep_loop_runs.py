"""One live service per rule over the same events of MovieLens-1M: configuration, trainings, and what was served."""

from __future__ import annotations

import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from experiments._live_training import Round, Service, Trainer
from nearline.evaluate import auc, log_loss

Floats = NDArray[np.float64]

STALE, UNIFORM, PPS, SPREAD, FULL = "no training", "uniform", "pps", "pps, by user", "full window"
RULES: dict[str, str | None] = {
    STALE: None,
    UNIFORM: 'select = "uniform"\nbudget = 0.1',
    PPS: 'select = "pps"\nbudget = 0.1',
    SPREAD: """\
budget = 0.1
slices = "user_id"
leverage = ["movie_id"]

[deep.select]
rule = "pps"
floor = 0.1
trust = "cells"
leverage = true
sampler = "cube"
order = "slice"
balance = ["sketch", "loss", "slice_error"]""",
    FULL: 'select = "uniform"\nbudget = 1.0',
}
"""What `[deep]` says; None trains nothing."""

CONFIG = """
[data]
path = "history.parquet"

[schema]
label = "liked"
time = "timestamp"

[schema.columns]
user_id = {{ kind = "categorical" }}
movie_id = {{ kind = "categorical" }}
age = {{ kind = "categorical" }}
occupation = {{ kind = "categorical" }}

[fixed]
on = ["user_id", "movie_id", "age", "occupation", "gender", "genres", "year"]

[fixed.network]
kind = "dlrm"
bottom = [16]
top = [32]
embedding = 8
epochs = 1
batch_size = {window}
learning_rate = 0.003
embedding_rate = 0.1
seed = {seed}

[[random]]
key = "user_id"
on = ["genres"]

[live]
folder = "state"

[join]
window = "1h"

[guard]
enabled = false

[training]
judge = {judge}

[gate]
tolerance = 0.03
calibration = [0.9, 1.1]
negative_flips = 0.1

[deep]
window = {window}
seed = {seed}
{deep}
"""


@dataclass(frozen=True)
class Size:
    """Events that are fitted and served, events between trainings, rows of a window, of a request, and for the gate."""

    history: int = 40_000
    served: int = 120_000
    every: int = 10_000
    window: int = 1_000
    request: int = 200
    judge: int = 2_000

    def config(self, seed: int, deep: str) -> str:
        """The `nearline.toml` of one run."""
        return CONFIG.format(seed=seed, deep=deep, window=self.window, judge=self.judge)


QUICK = Size(history=6_000, served=8_000, every=3_000, window=500, request=200, judge=600)


@dataclass(frozen=True)
class Served:
    """Log loss, AUC, and predicted by actual of what was served."""

    loss: float
    auc: float
    calibration: float

    @classmethod
    def of(cls, label: Floats, margin: Floats) -> Served:
        """Of recorded log-odds."""
        p = 1 / (1 + np.exp(-margin))
        return cls(log_loss(label, p), auc(label, p), float(p.sum() / label.sum()))


@dataclass(frozen=True)
class Run:
    """One rule over one stream: the network alone, the whole score as it was served, and its trainings."""

    network: Served
    whole: Served
    rounds: tuple[Round, ...] = field(default=())

    @property
    def backwards(self) -> int:
        """Rows trained on."""
        return sum(one.chosen for one in self.rounds)

    @property
    def seconds(self) -> float:
        """The processor's, of all trainings."""
        return sum(one.seconds for one in self.rounds)

    @property
    def published(self) -> int:
        """Trainings that the gate let through."""
        return sum(one.published for one in self.rounds)


def of_seed(events: pa.Table, seed: int, size: Size, root: Path, trainer: Trainer) -> dict[str, Run]:
    """Every rule on the stream, from one fit."""
    base = root / f"seed-{seed}"
    base.mkdir()
    (base / "nearline.toml").write_text(size.config(seed, ""))
    pq.write_table(events.slice(0, size.history), base / "history.parquet")
    fit(base / "nearline.toml")
    stream = events.slice(size.history, size.served)
    found = {}
    for number, (rule, deep) in enumerate(RULES.items()):
        folder = root / f"seed-{seed}-{number}"
        shutil.copytree(base, folder)
        (folder / "nearline.toml").write_text(size.config(seed, deep or ""))
        found[rule] = run(folder / "nearline.toml", stream, size, trainer if deep else None)
        shutil.rmtree(folder)
    return found


def fit(file: Path) -> None:
    """`nearline fit`: version 1.0.0, published."""
    import torch

    from nearline.cli import _fit

    torch.set_num_threads(1)
    with redirect_stdout(StringIO()):
        _fit.run(file, why="the first part", publish=True, as_object=True)


def run(file: Path, stream: pa.Table, size: Size, trainer: Trainer | None) -> Run:
    """Serve the stream from the version that is live, with trainings beside it."""
    columns = ["user_id", "movie_id", "age", "occupation", "gender", "genres", "year"]
    label, time = np.asarray(stream["liked"], np.float64), np.asarray(stream["timestamp"], np.float64)
    rounds = []
    with Service(file, float(time[0])) as service:
        for at in range(0, stream.num_rows, size.request):
            rows = stream.slice(at, size.request)
            end = at + rows.num_rows
            service.request(rows.select(columns).to_pylist(), label[at:end].tolist(), float(time[end - 1]))
            if trainer is not None and end % size.every == 0 and end < stream.num_rows:
                rounds.append(trainer.train(file))
        recorded = service.recorded()
    network, whole = (np.asarray(recorded[name], np.float64) for name in ("network_logit", "served"))
    return Run(Served.of(label, network), Served.of(label, whole), tuple(rounds))
