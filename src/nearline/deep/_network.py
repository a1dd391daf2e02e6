"""Network: a torch network from the columns of a table to a logit, with the verbs of an estimator."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from nearline._errors import ConfigError, DataError, StateError
from nearline.deep import _modules, _save
from nearline.deep._architecture import MLP, Architecture
from nearline.deep._information import Information
from nearline.deep._inputs import Bags, InputMap
from nearline.deep._leverage import counted
from nearline.deep._optimiser import Optimiser
from nearline.deep._passes import Passes, Trained
from nearline.deep._prior import Laplace
from nearline.deep._steps import Steps, as_numpy, mini_batches, norm_of
from nearline.deep._torch import device as torch_device
from nearline.deep._update import Updating
from nearline.features import Design, Encoder
from nearline.glmix import _layout, _links
from nearline.schema import Key, Rejects, Schema
from nearline.select import signs, sketch_inputs, to_bytes

Floats = NDArray[np.float64]
CHUNK = 8192
"""Rows that are scored at once."""
_signs = lru_cache(maxsize=16)(signs)


class Network(Updating):
    """A torch network as the fixed part of a score: η = offset + network(x).

    Parameters
    ----------
    schema
        What the columns are for.
    columns
        Feature columns that the network reads. Numbers and vectors enter as they are (standardised by what the first
        table said), everything else by embedding, one table row per value; new values get new rows.
    keys
        Key columns whose entity codes a custom module wants; ready networks embed columns only.
    architecture
        `MLP`, `DCN`, `DLRM`, or `custom(factory)` for any `torch.nn.Module`.
    link
        ``"logit"``, ``"identity"`` or ``"log"``; the loss follows.
    optimiser
        Rule, step sizes, mini-batch size.
    laplace
        The prior of `update`, and what is kept of its posterior.
    seed
        First weights, order of rows in `fit` and signs of sketches all follow from it.
    device
        ``"cpu"`` or ``"cuda"``. On one CPU with as many threads, the same calls give the same weights bit for bit.
    dtype
        ``"float32"`` or ``"float64"``.

    Examples
    --------
    >>> from nearline import Schema
    >>> rows = {"ad": ["a", "b", "a", "b"], "price": [1.0, 2.0, 3.0, 4.0], "clicked": [1, 0, 1, 0]}
    >>> network = Network(Schema(label="clicked"), ["ad", "price"], architecture=MLP((8,), embedding=4))
    >>> network.partial_fit(rows).steps
    1
    >>> network.predict_proba(rows).shape, network.passes
    ((4,), Passes(forwards=8, backwards=4))
    """

    def __init__(
        self,
        schema: Schema,
        columns: Sequence[str],
        *,
        keys: Sequence[Key] = (),
        architecture: Architecture | None = None,
        link: str = "logit",
        optimiser: Optimiser | None = None,
        laplace: Laplace | None = None,
        seed: int = 0,
        device: str = "cpu",
        dtype: Literal["float32", "float64"] = "float32",
    ) -> None:
        _links.by_name(link)
        if dtype not in ("float32", "float64"):
            raise ConfigError(f"Network(dtype=...) is 'float32' or 'float64', got {dtype!r}")
        torch_device(device)
        self.columns, self.keys = tuple(columns), tuple(keys)
        self.architecture, self.optimiser = architecture or MLP(), optimiser or Optimiser()
        self.laplace, self.evidence = laplace or Laplace(), {}
        self.link, self.seed, self.device, self.dtype = link, seed, device, dtype
        self.encoder = Encoder(schema, columns, keys)
        self.passes = Passes()
        self.epochs = 0
        self._map: InputMap | None = None

    @property
    def schema(self) -> Schema:
        """What the columns are for."""
        return self.encoder.schema

    # -- from tables to designs ---------------------------------------------------------------------------------------

    def design(self, table: Any, *, learn: bool, divert: bool = False) -> tuple[Design, Rejects]:
        """Check and encode a table, once for several calls: every method takes a design for a table.

        With `learn`, labels are needed and new values get slots, and rows in the network's table.

        Raises
        ------
        StateError
            Rows are to be scored, and the network has seen no table to learn.
        """
        if not learn and self._map is None:
            raise StateError("the network has seen no table yet; call fit or partial_fit first")
        if isinstance(table, Design):
            _layout.check_design(table, self.encoder, learn=learn)
            design, rejects = table, Rejects(np.zeros(0, np.int64), (), None)
        else:
            checked = self.encoder.check(table, link=self.link, need_label=learn, divert=divert)
            design, rejects = self.encoder.encode(checked, grow=learn), checked.rejects
        if learn:
            self._grow()
        return design, rejects

    def _grow(self) -> None:
        """Meet the slots that the encoder has learned; the first time, make the network."""
        if self._map is None:
            self._map = InputMap(self.encoder, self.columns, self.keys)
            self._start()
        if self._map.n_slots < self.encoder.n_slots:
            self._map.grow(self.encoder.n_slots)
        if self._map.fields and self.module.table.grow(self._map.n_slots):
            self.steps.grow()

    def _start(self) -> None:
        """First weights, from the seed."""
        shape = self.inputs.shape(self.architecture.embedding)
        self.module = _modules.build(shape, self.architecture, self.seed, getattr(torch, self.dtype))
        if self.inputs.fields:
            self.module.table.grow(self.inputs.n_slots)
        self.module.to(torch_device(self.device))
        self.steps = Steps(self.module, self.optimiser)

    @property
    def trained(self) -> bool:
        """Whether a table has said what the columns are, so that rows can be scored."""
        return self._map is not None

    @property
    def inputs(self) -> InputMap:
        """Which slot is which input, once a table has said what the columns are."""
        if self._map is None:
            raise StateError("the network has seen no table yet; call fit or partial_fit first")
        return self._map

    # -- learning -----------------------------------------------------------------------------------------------------

    def partial_fit(self, table: Any, *, weight: ArrayLike | None = None) -> Trained:
        """Learn rows in the order given: one pass of mini-batches, each a step on mean(ω_i w_i ℓ_i).

        Parameters
        ----------
        weight
            Relative weight ω (n) of each row, times the table's own w: a selection's weights make the expected
            gradient that of everything it was chosen from.

        Raises
        ------
        StateError
            A loss is not finite.
        """
        design, _ = self.design(table, learn=True)
        return self._train([design], [_weights(design, weight)])

    def fit(
        self, table: Any, *, epochs: int = 3, weight: ArrayLike | None = None, shuffle: bool = True, warm: bool = False
    ) -> Trained:
        """Fit the network to history: several passes, in an order drawn anew for each from the seed.

        Parameters
        ----------
        shuffle
            False passes over the rows in the order given.
        warm
            Go on from the current weights; else begin from the first ones, with the last layer's bias at the rate of
            the labels.
        """
        if epochs < 1:
            raise ConfigError(f"fit(epochs=...) must be at least 1, got {epochs!r}")
        design, _ = self.design(table, learn=True)
        weights = _weights(design, weight)
        if not warm:
            self._start()
            self.evidence = {}
            self._begin_at_the_rate(design, weights)
        orders = [self._order(design.rows, shuffle, self.epochs + epoch) for epoch in range(epochs)]
        self.epochs += epochs
        trained = self._train((design.select(o) for o in orders), (weights[o] for o in orders))
        back = np.argsort(orders[-1])
        return Trained(trained.rows, trained.steps, trained.loss, trained.margin[back], trained.norm[back])

    def _order(self, rows: int, shuffle: bool, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, epoch]).permutation(rows) if shuffle else np.arange(rows)

    def _begin_at_the_rate(self, design: Design, weights: Floats) -> None:
        bias = getattr(self.module.head, "bias", None)
        total = weights.sum()
        if bias is None or not total:
            return
        rate, offset = (float(weights @ column / total) for column in (design.label, design.offset))
        with torch.no_grad():
            bias.fill_(_margin_of(self.link, rate) - offset)

    def _train(self, designs: Any, weights: Any) -> Trained:
        losses, rows, margin, norm = [], 0, np.zeros(0), np.zeros(0)
        self.module.train()
        for design, weight in zip(designs, weights):
            columns = (self._tensor(column) for column in (design.label, weight, design.offset))
            margin, norm, loss = self.steps.one_pass(self._bags(design), self.link, *columns)
            rows = design.rows
            self.passes.forwards += rows
            self.passes.backwards += rows
            losses.append(loss)
        per_pass = -(-rows // self.optimiser.batch_size)
        return Trained(rows, len(losses) * per_pass, tuple(losses), margin, norm)

    def _bags(self, design: Design) -> Bags:
        return self.inputs.bags(design, np.dtype(self.dtype)).to(torch_device(self.device))

    def _tensor(self, column: Floats) -> torch.Tensor:
        return torch.from_numpy(column.astype(self.dtype)).to(self.device)

    # -- scoring ------------------------------------------------------------------------------------------------------

    def decision_function(self, table: Any) -> Floats:
        """Margin η (n), offset included: calibrated log-odds as far as the training was unbiased."""
        return self.information(table).logit

    def predict(self, table: Any) -> Floats:
        """Expected label (n): probability, mean or rate."""
        return _links.by_name(self.link).mean(self.decision_function(table))

    def predict_proba(self, table: Any, *, averaged: bool = False) -> Floats:
        """Probability (n) that the label is 1.

        Parameters
        ----------
        averaged
            Average over what `update` left open in the weights, p = σ(η / √(1 + π s / 8)), s = `variance`, instead of
            σ(η).
        """
        if self.link != "logit":
            raise ConfigError(f"predict_proba needs link='logit'; this network has {self.link!r}, use predict")
        if not averaged:
            return self.predict(table)
        design, _ = self.design(table, learn=False)
        spread = np.sqrt(1.0 + np.pi * self.variance(design) / 8.0)
        return _links.by_name("logit").mean(self.decision_function(design) / spread)

    def information(self, table: Any, *, sketch: int = 0) -> Information:
        """Score rows and keep what later selects among them: one forward pass gives both.

        Parameters
        ----------
        sketch
            Length K of the random-sign sketch of [h; 1]; 0 records none.
        """
        design, _ = self.design(table, learn=False)
        logits, norms, sketches = [], [], []
        self.module.eval()
        with torch.no_grad():
            for start, stop in mini_batches(design.rows, CHUNK):
                logit, h = self.module(self._bags(design.take(start, stop)))
                logits.append(logit)
                norms.append(norm_of(h, logit))
                sketches += [self._sketch(logit, h, sketch)] if sketch else []
        self.passes.forwards += design.rows
        codes, scale = to_bytes(np.concatenate(sketches)) if sketches else (None, None)
        half = None if scale is None else scale.astype(np.float16)
        return Information(design.offset + as_numpy(logits), as_numpy(norms), codes, half, self.link)

    def _sketch(self, logit: torch.Tensor, h: torch.Tensor | None, size: int) -> Floats:
        inputs = np.zeros((len(logit), 0)) if h is None else h.cpu().numpy()
        return sketch_inputs(inputs, _signs(self.seed, inputs.shape[1] + 1, size))

    def leverage(self, table: Any, columns: Sequence[str]) -> Floats:
        """How much of the network rests on each row (n): large where values of `columns` were seldom trained on.

        Needs no forward pass and no other column: with what the ledger keeps of every row it is known before features
        are loaded. `select.Pps(leverage=True)` draws by it. See `_leverage` for the equation. Values that were never
        seen count as never trained on; they get no slot by it.

        Parameters
        ----------
        table
            It needs no other columns than those; or a design.
        columns
            Embedded columns. Leave out the one whose errors a draw balances ("slice_error"): what is balanced adds no
            variance.

        Examples
        --------
        >>> from nearline import Schema
        >>> rows = {"ad": ["a", "a", "a", "b"], "clicked": [1, 0, 1, 0]}
        >>> network = Network(Schema(label="clicked"), ["ad"], architecture=MLP((), embedding=1))
        >>> trained = network.partial_fit(rows)
        >>> network.leverage(rows, ["ad"]).tolist()                # D/k = 2, and 5/4 or 5/2
        [3.25, 3.25, 3.25, 4.5]
        """
        fields = counted(self.inputs.fields, columns)
        if isinstance(table, Design):
            design, encoder = self.design(table, learn=False)[0], self.encoder
        else:
            encoder = self.encoder.only(columns)
            design = encoder.encode(table, grow=False)
        layers = [p for p in self.module.parameters() if p is not self.module.table.weight]
        share = sum(p.numel() for p in layers) / self.architecture.embedding
        return self.steps.exposure.leverage(self.inputs.values(design, encoder), fields, share)

    # -- copies -------------------------------------------------------------------------------------------------------

    def fork(self) -> Network:
        """An independent network with the same weights and optimiser state; the vocabulary, which grows, is shared."""
        twin = copy.copy(self)
        twin.passes, twin.evidence = Passes(), dict(self.evidence)
        if self._map is not None:
            twin._map = copy.copy(self._map)
            twin.module = copy.deepcopy(self.module)
            twin.steps = Steps(twin.module, self.optimiser)
            twin.steps.restore(self.steps.tensors())
        return twin

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the network to a folder: safetensors (weights, optimiser state), a JSON manifest with checksums."""
        return _save.save(self, Path(folder))

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], *, architecture: Architecture | None = None, device: str = "cpu"
    ) -> Network:
        """Read what `save` wrote; a missing, truncated or altered file raises StateError.

        Parameters
        ----------
        architecture
            Of a custom network, whose code is not saved.
        """
        return _save.load(cls, Path(folder), architecture, device)

    def __repr__(self) -> str:
        held = 0 if self._map is None else sum(p.numel() for p in self.module.parameters())
        return f"Network({self.architecture}, link={self.link!r}, device={self.device!r}, {held:,} weights)"


def _margin_of(link: str, rate: float) -> float:
    """The margin whose expected label is `rate`, which is kept 1e-3 away from where it is infinite."""
    if link == "identity":
        return rate
    if link == "log":
        return math.log(max(rate, 1e-3))
    rate = min(max(rate, 1e-3), 1 - 1e-3)
    return math.log(rate / (1 - rate))


def _weights(design: Design, weight: ArrayLike | None) -> Floats:
    """The table's weights times the relative ones."""
    if weight is None:
        return design.weight
    given = np.asarray(weight, np.float64)
    if given.shape != (design.rows,):
        raise DataError(f"weight has shape {given.shape} for {design.rows} rows", fix="give one number per row")
    bad = ~(np.isfinite(given) & (given >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"weight is {given[row]}", row=row, fix="weights are finite and >= 0")
    return design.weight * given
