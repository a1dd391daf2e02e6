"""Sequential Bayes for a network's weights: the posterior of before a slice of data is the prior of its update.

    θ = argmin Σ_n w_n ℓ(y_n, η_n(θ)) + ½ (θ − m)ᵀ P (θ − m),      H = P + Σ_n w_n D_n J_n J_nᵀ at θ

as `GLMix.update` does for a linear fixed effect. Source: arXiv 2108.13299, the incremental update of deep models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nearline._errors import ConfigError, StateError
from nearline.deep import _curvature
from nearline.deep._curvature import TABLE
from nearline.deep._evidence import Diagonal, Evidence, Full, Kronecker, Prior, prior
from nearline.deep._prior import Laplace
from nearline.deep._steps import as_numpy, mini_batches, row_loss
from nearline.features import Design
from nearline.glmix import _links
from nearline.glmix._solve import CONVERGED, solve

if TYPE_CHECKING:
    from nearline.deep._network import Network

Floats = NDArray[np.float64]
CHUNK = 8192


@dataclass(frozen=True, slots=True)
class Updated:
    """What one `Network.update` did.

    Attributes
    ----------
    rows
        Rows learned: those of positive weight.
    steps
        Passes over the slice.
    converged
        Whether the gradient of the penalised loss ended within the tolerance.
    """

    rows: int
    steps: int
    converged: bool


class Updating:
    """The verbs of `Network` that know how sure it is of its weights."""

    laplace: Laplace
    evidence: dict[str, Evidence]

    def update(
        self, table: Any, *, past_weight: float = 1.0, steps: int = 200, tolerance: float | None = None
    ) -> Updated:
        """Update the weights from one slice of data, what was learned before being their prior.

            θ = argmin Σ_n w_n ℓ(y_n, η_n) + ½ (θ − m)ᵀ P (θ − m),    P = λI + ωJ,    m = P⁻¹ ω (λI + J) θ_before

        Parameters
        ----------
        table
            The slice: what has come since the last update, or a design.
        past_weight
            ω ≥ 0, the weight of the past, as in `GLMix.update`: 1 forgets nothing, 0 starts from the base prior.
        steps, tolerance
            At most so many passes of L-BFGS, fewer once no component of the gradient exceeds the tolerance per row
            (times Σ w): 1e-6 by default, 1e-3 in float32, which cannot tell less. The last layer by itself is solved
            by Newton's method.

        Raises
        ------
        StateError
            The last layer's solve failed; nothing has changed.

        Examples
        --------
        >>> from nearline import Schema
        >>> from nearline.deep import MLP, Laplace, Network
        >>> network = Network(Schema(label="y"), ["x"], architecture=MLP(()), laplace=Laplace(precision=0.1))
        >>> monday, tuesday = {"x": [1.0, 2.0, 3.0], "y": [0, 0, 1]}, {"x": [0.0, 4.0], "y": [0, 1]}
        >>> network.update(monday).rows
        3
        >>> sure = network.variance(tuesday)
        >>> _ = network.update(tuesday, past_weight=0.9)
        >>> bool((network.variance(tuesday) < sure).all())
        True
        """
        network = cast("Network", self)
        if not 0 <= past_weight < float("inf"):
            raise ConfigError(f"update(past_weight=...) must be >= 0 and finite, got {past_weight!r}")
        design, _ = network.design(table, learn=True)
        known = known_evidence(network)
        if self.laplace.structure == "last_layer":
            return _update_last_layer(network, known, design, past_weight)
        layers = cast("dict[str, Diagonal | Kronecker]", known)
        priors = {name: prior(said, past_weight, self.laplace.precision) for name, said in layers.items()}
        least = (1e-6 if network.dtype == "float64" else 1e-3) if tolerance is None else tolerance
        limit = least * max(1.0, float(design.weight.sum()))
        passes, converged = _descend(network, design, priors, steps, limit)
        weighed = {name: said.weighed(past_weight) for name, said in layers.items()}
        self.evidence = _with_curvature(network, design, weighed)
        return Updated(int((design.weight > 0).sum()), passes, converged)

    def consolidate(self, history: Any) -> None:
        """Take the current weights, and how sharply history determines them, as the posterior: after `fit`.

        What an `update` had learned of the uncertainty is replaced.
        """
        network = cast("Network", self)
        design, _ = network.design(history, learn=True)
        self.evidence = {}
        known = known_evidence(network)
        if self.laplace.structure == "last_layer":
            theta, X = _head_weights(network), _last_inputs(network, design)
            D = _links.by_name(network.link).curvature(design.label, X @ theta + design.offset)
            J = X.T @ ((design.weight * D)[:, None] * X)
            self.evidence = {"head": Full(torch.from_numpy(theta), torch.from_numpy(J))}
        else:
            self.evidence = _with_curvature(network, design, cast("dict[str, Diagonal | Kronecker]", known))

    def variance(self, table: Any) -> Floats:
        """Variance (n) of the logit, as far as the weights' posterior leaves it open (linearised at the mean)."""
        network = cast("Network", self)
        design, _ = network.design(table, learn=False)
        known = known_evidence(network)
        if self.laplace.structure == "last_layer":
            X, J = _last_inputs(network, design), known["head"].tensors()["J"].cpu().numpy()
            solved = np.linalg.solve(J + self.laplace.precision * np.eye(len(J)), X.T)
            return np.asarray((X.T * solved).sum(axis=0), np.float64)
        found = []
        for start, stop in mini_batches(design.rows, CHUNK):
            bags = network._bags(design.take(start, stop))
            rows = _curvature.jacobians(network.module, bags)
            found.append(_curvature.logit_variance(known, rows, bags, self.laplace.precision))
        network.passes.forwards += design.rows
        network.passes.backwards += design.rows
        return as_numpy(found)


def known_evidence(network: Network) -> dict[str, Evidence]:
    """What was said of every layer, none for layers and rows of the table that are new."""
    known = dict(network.evidence)
    if network.laplace.structure == "last_layer":
        if "head" not in known:
            d = len(_head_weights(network))
            known["head"] = Full(torch.zeros(d).double(), torch.zeros(d, d).double())
        return known
    kind = Kronecker if network.laplace.structure == "kronecker" else Diagonal
    for name, layer in _curvature.linear_layers(network.module).items():
        if name not in known:
            known[name] = kind.none(matrix(layer).detach().double())
    if network.inputs.fields:
        weight = network.module.table.weight.detach().double()
        table = known.get(TABLE, Diagonal.none(weight))
        assert isinstance(table, Diagonal)
        known[TABLE] = table.grown(len(weight))
    return known


def matrix(layer: nn.Linear) -> torch.Tensor:
    """Weights (out, in), the bias as last column."""
    return layer.weight if layer.bias is None else torch.cat([layer.weight, layer.bias[:, None]], dim=1)


def _matrices(network: Network) -> dict[str, torch.Tensor]:
    found = {name: matrix(layer) for name, layer in _curvature.linear_layers(network.module).items()}
    return {**found, TABLE: network.module.table.weight} if network.inputs.fields else found


def _descend(network: Network, design: Design, priors: dict[str, Prior], steps: int, limit: float) -> tuple[int, bool]:
    """Weights at the mode of the penalised loss; passes made, and whether it was reached."""
    parameters = [p for p in network.module.parameters() if p.requires_grad and p.numel()]
    solver = torch.optim.LBFGS(
        parameters, max_iter=steps, max_eval=2 * steps, tolerance_grad=limit, tolerance_change=0.0,
        history_size=20, line_search_fn="strong_wolfe",
    )  # fmt: skip
    passes = 0

    def objective() -> torch.Tensor:
        nonlocal passes
        passes += 1
        solver.zero_grad(set_to_none=True)
        total = _loss(network, design)
        penalty = torch.stack([priors[name].penalty(W) for name, W in _matrices(network).items()]).sum()
        penalty.backward()
        return total + penalty.detach()

    network.module.table.sparse = False
    try:
        solver.step(objective)
        gradients = [p.grad.abs().max() for p in parameters if p.grad is not None]
    finally:
        network.module.table.sparse = True
        solver.zero_grad(set_to_none=True)
    return passes, bool(torch.stack(gradients).max() <= limit)


def _loss(network: Network, design: Design) -> torch.Tensor:
    """Σ_n w_n ℓ_n, its gradient added to the weights'."""
    total = torch.zeros((), device=network.device)
    for start, stop in mini_batches(design.rows, CHUNK):
        part = design.take(start, stop)
        label, weight, offset = (network._tensor(column) for column in (part.label, part.weight, part.offset))
        logit, _ = network.module(network._bags(part))
        loss = (weight * row_loss(network.link, label, logit + offset)).sum()
        loss.backward()
        total = total + loss.detach()
    network.passes.forwards += design.rows
    network.passes.backwards += design.rows
    return total


def _with_curvature(network: Network, design: Design, evidence: dict[str, Diagonal | Kronecker]) -> dict[str, Evidence]:
    """Evidence with the rows' curvature at the current weights, which become its mean."""
    link = _links.by_name(network.link)
    for start, stop in mini_batches(design.rows, CHUNK):
        part = design.take(start, stop)
        bags = network._bags(part)
        rows = _curvature.jacobians(network.module, bags)
        margin = rows.logit.cpu().numpy().astype(np.float64) + part.offset
        strength = torch.from_numpy(part.weight * link.curvature(part.label, margin)).to(network.device)
        evidence = _curvature.added(evidence, rows, bags, strength)
    network.passes.forwards += design.rows
    network.passes.backwards += design.rows
    means = {name: W.detach().double().clone() for name, W in _matrices(network).items()}
    return {name: _at(said, means[name]) for name, said in evidence.items()}


def _at(said: Diagonal | Kronecker, mean: torch.Tensor) -> Evidence:
    return type(said)(**{**said.tensors(), "mean": mean})


def _update_last_layer(network: Network, known: dict[str, Evidence], design: Design, omega: float) -> Updated:
    mean, J = (known["head"].tensors()[name].cpu().numpy() for name in ("mean", "J"))
    base = network.laplace.precision * np.eye(len(mean))
    P = base + omega * J
    m = np.linalg.solve(P, omega * (base + J) @ mean)
    X = _last_inputs(network, design)
    fit = solve(X, design.label, design.weight, design.offset, m, P, _links.by_name(network.link))
    if fit.status != CONVERGED:
        raise StateError(f"the last layer's solve ended with status {fit.status!r}; nothing was learned of the slice")
    head = _head(network)
    theta = torch.from_numpy(fit.theta).to(head.weight)
    with torch.no_grad():
        head.weight.copy_(theta[: head.in_features][None])
        if head.bias is not None:
            head.bias.copy_(theta[head.in_features :])
    network.evidence = {"head": Full(torch.from_numpy(fit.theta), torch.from_numpy(fit.H - base))}
    return Updated(int((design.weight > 0).sum()), 1, True)


def _head(network: Network) -> Any:
    head = network.module.head
    if not isinstance(head, nn.Linear):
        raise ConfigError("Laplace('last_layer') needs a last linear layer; name it 'head' in the module")
    return head


def _head_weights(network: Network) -> Floats:
    return np.asarray(matrix(_head(network)).detach().cpu().numpy()[0].astype(np.float64))


def _last_inputs(network: Network, design: Design) -> Floats:
    """Inputs of the last layer (n, d), 1 appended where it has a bias."""
    found = []
    network.module.eval()
    with torch.no_grad():
        for start, stop in mini_batches(design.rows, CHUNK):
            h = network.module(network._bags(design.take(start, stop)))[1]
            found.append(h.cpu().numpy().astype(np.float64))
    network.passes.forwards += design.rows
    d = len(_head_weights(network))
    X = np.concatenate(found) if found else np.zeros((0, d))
    return X if X.shape[1] == d else np.column_stack([X, np.ones(len(X))])
