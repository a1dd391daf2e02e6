"""Training in windows on what was recorded: score, record, price, choose, load, one step; counted and timed."""

from __future__ import annotations

import time
import warnings
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from experiments._click_streams import Stream
from nearline import NearlineWarning, deep, select
from nearline.deep import Information
from nearline.features import Design
from nearline.recalibrate import RecalibrationSettings, Recalibrator

Floats = NDArray[np.float64]
What = Literal["served", "raw"]
SKETCH = 16


@dataclass(frozen=True)
class Scored:
    """How good margins were: mean log loss, and mean prediction over mean label."""

    loss: float
    calibration: float


@dataclass(frozen=True)
class Run:
    """What a rule came to on a stream: over the last half of the windows, each scored before it was trained on.

    Attributes
    ----------
    served, raw
        Of the recalibrated margins, which are what a service answers (`served`), and of the network's own.
    floor
        Mean log loss of the true probabilities; NaN where they are not known.
    seconds
        Choosing, loading and training; serving's forward passes are not in it.
    backwards, forwards
        Rows trained on, and rows that went forward beside them for choosing.
    """

    served: Scored
    raw: Scored
    floor: float
    seconds: float
    backwards: int
    forwards: int

    def of(self, what: What) -> Scored:
        """Of one kind of margin."""
        return self.served if what == "served" else self.raw


def run(
    stream: Stream, rule: select.Rule | None, *, seed: int, lag: int, ratio: float = 0.1, shuffled: bool = False
) -> Run:
    """Train one network over a stream on what `rule` chooses of each window; None trains on everything.

    Records are `lag` steps old: made by the parameters of that many steps before (of the start, for the first).
    `shuffled` makes them worthless, by giving each row the record of another.
    """
    network, design = start(stream, seed)
    sketch = SKETCH if rule is not None and rule.sketched else 0
    records = Recorder(network, design, stream.window, lag, sketch)
    entity, rests = entities(stream), bool(getattr(rule, "leverage", False))
    rng, state = np.random.default_rng([seed, 1]), select.SelectorState()
    least = irreducible(stream, seed) if rule is not None and rule.name == "rho_loss" else None
    margin, seconds = np.full(design.rows, np.nan), 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NearlineWarning)  # unweighted rules say that they are; the table shows it
        for window, (first, last) in enumerate(records.windows):
            rows, record = design.take(first, last), records.take(window)
            margin[first:last] = records.now.logit
            scores = replace(priced(record, rows.label, lag, rng if shuffled else None), slice=entity[first:last])
            if least is not None:
                scores = replace(scores, irreducible=least[first:last])
            begun, before = time.process_time(), network.passes.forwards
            if rests:
                scores = replace(scores, leverage=network.leverage(rows, stream.items))
            state = train(network, rows, rule, scores, ratio, rng, state)
            seconds += time.process_time() - begun
            network.passes.forwards = before
    return measured(stream, design, margin, seconds, network)


def start(stream: Stream, seed: int) -> tuple[deep.Network, Design]:
    """A fresh network, and the whole stream as it reads it."""
    network = stream.network(seed)
    design, _ = network.design(stream.table, learn=True)
    return network, design


def train(
    network: deep.Network, rows: Design, rule: select.Rule | None, scores: select.Scores, ratio: float,
    rng: np.random.Generator, state: select.SelectorState,
) -> select.SelectorState:  # fmt: skip
    """One step on what the rule chooses; what it learns from the fresh scores, which that step's forward pass gave."""
    if rule is None:
        network.partial_fit(rows)
        return state
    chosen = rule(scores, ratio, rng, state)
    if not len(chosen):
        return chosen.state
    part = rows.select(chosen.index)
    trained = network.partial_fit(part, weight=chosen.weight)
    fresh = Information(trained.margin, trained.norm, None, None, network.link)
    seen = fresh.score(part.label) if getattr(rule, "by", "score") == "score" else fresh.loss(part.label)
    return rule.learn(chosen.state, chosen, seen)


def priced(record: Information, label: Floats, lag: int, rng: np.random.Generator | None) -> select.Scores:
    """Loss, error, score and sketch of recorded predictions, now that the labels are known."""
    scores = select.Scores(
        loss=record.loss(label), error=record.error(label), score=record.score(label), label=label,
        lag=np.full(len(label), float(lag)), sketch=None if record.codes is None else record.sketch(label),
    )  # fmt: skip
    if rng is None:
        return scores
    order = rng.permutation(len(label))
    return replace(scores, loss=scores.loss[order], error=scores.error[order], score=scores.score[order])


def entities(stream: Stream) -> NDArray[np.int64]:
    """Code of the entity of every row; 0 for all where the stream has none."""
    if stream.entity is None:
        return np.zeros(stream.table.num_rows, np.int64)
    values = stream.table[stream.entity].to_numpy(zero_copy_only=False)
    return np.asarray(np.unique(values, return_inverse=True)[1], np.int64)


class Recorder:
    """Records of every window, `lag` steps old when it is trained on; a serving model's work, so nobody's cost here."""

    def __init__(self, network: deep.Network, design: Design, window: int, lag: int, sketch: int) -> None:
        self.network, self.design, self.lag, self.sketch = network, design, lag, sketch
        edges = range(0, design.rows - window + 1, window)
        self.windows = [(first, first + window) for first in edges]
        self.now: Information
        self._waiting: deque[Information] = deque()

    def take(self, window: int) -> Information:
        """The record of a window, and in `now` what the current parameters say of it."""
        self.now = self._score(window)
        if not self.lag:
            return self.now
        if window == 0:
            self._waiting.extend(self._score(w) for w in range(min(self.lag, len(self.windows))))
        if window + self.lag < len(self.windows):
            self._waiting.append(self._score(window + self.lag))
        return self._waiting.popleft()

    def _score(self, window: int) -> Information:
        return self.network.information(self.design.take(*self.windows[window]), sketch=self.sketch)


def measured(stream: Stream, design: Design, margin: Floats, seconds: float, network: deep.Network) -> Run:
    """The last half of what was scored."""
    late = scored_half(design, stream.window)
    label = design.label[late]
    floor = float("nan") if stream.truth is None else float(loss(label, stream.truth[late]).mean())
    return Run(
        scored(label, recalibrated(stream, design.label, margin)[late]), scored(label, margin[late]), floor, seconds,
        network.passes.backwards, network.passes.forwards,
    )  # fmt: skip


def scored(label: Floats, margin: Floats) -> Scored:
    """Margins held against labels."""
    p = 1 / (1 + np.exp(-margin))
    return Scored(float(loss(label, margin).mean()), float(p.mean() / label.mean()))


def recalibrated(stream: Stream, label: Floats, margin: Floats) -> Floats:
    """Margins as a service answers them: a window is mapped by what the windows before it taught, then teaches.

    The settings are those that `nearline run` has without a word; margins behind the last full window stay as they are.
    """
    found, answered = Recalibrator(RecalibrationSettings()), margin.copy()
    for first in range(0, len(margin) - stream.window + 1, stream.window):
        rows = slice(first, first + stream.window)
        answered[rows] = found.apply(margin[rows])
        now = 0.0 if stream.time is None else float(stream.time[rows].max())
        found.observe(label[rows], margin[rows], time=now)
    return answered


def hindsight(stream: Stream, seed: int) -> float:
    """Log loss on the scored half of the network that has been trained on every row to the end of the stream."""
    network, design = start(stream, seed)
    n = stream.window
    for first in range(0, design.rows - n + 1, n):
        network.partial_fit(design.take(first, first + n))
    late = scored_half(design, n)
    rows: Any = design.take(late.start, late.stop)
    return float(loss(rows.label, network.decision_function(rows)).mean())


def irreducible(stream: Stream, seed: int) -> Floats:
    """Loss of every row under a network trained on every tenth row of the stream, for three passes: an upper hand."""
    network, design = start(stream, seed + 1_000)
    network.fit(design.select(np.arange(0, design.rows, 10)), warm=True)
    return network.information(design).loss(design.label)


def scored_half(design: Design, window: int) -> slice:
    """Rows of the last half of the windows."""
    windows = design.rows // window
    return slice(windows // 2 * window, windows * window)


def loss(label: Floats, margin: Floats) -> Floats:
    """log(1 + e^η) − yη per row."""
    return np.asarray(np.logaddexp(0.0, margin) - label * margin)
