"""Gradients of the logit, row by row, without a pass per row: a linear layer's is the product of two vectors.

    ∂logit_n/∂W = g_n a_nᵀ,     a_n the layer's input (1 appended for the bias), g_n = ∂logit_n/∂(layer's output)

One forward and one backward pass give a and g of all layers; a row of the embedding table has ∂logit_n/∂E_s =
c · ∂logit_n/∂embedded[n, f], c its weight in the bag.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nearline._errors import ConfigError
from nearline.deep._evidence import Diagonal, Evidence, Kronecker, variance
from nearline.deep._inputs import Bags

TABLE = "table"


@dataclass(frozen=True, slots=True)
class Jacobians:
    """Of n rows: the logit, (a, g) by layer, and ∂logit/∂embedded (n, F, k)."""

    logit: torch.Tensor
    layers: dict[str, tuple[torch.Tensor, torch.Tensor]]
    embedded: torch.Tensor | None


def linear_layers(module: nn.Module) -> dict[str, nn.Linear]:
    """Linear layers by name; together with the embedding table they must be all there is.

    Raises
    ------
    ConfigError
        The network has other weights.
    """
    layers = {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear)}
    known = {id(p) for layer in layers.values() for p in layer.parameters()} | {id(module.table.weight)}
    other = [name for name, p in module.named_parameters() if id(p) not in known and p.requires_grad]
    if other:
        raise ConfigError(
            f"weight {other[0]!r} belongs to no linear layer: its curvature is not known; use Laplace('last_layer')"
        )
    return layers


def jacobians(module: nn.Module, bags: Bags) -> Jacobians:
    """Gradients of the logit of every row, in float64."""
    layers, inputs, outputs = linear_layers(module), {}, {}

    def listen(name: str) -> Any:
        def hook(_: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
            if name in inputs or out.dim() != 2:
                raise ConfigError(f"layer {name!r} acts more than once on a row; use Laplace('last_layer')")
            inputs[name], outputs[name] = given[0], out

        return hook

    handles = [layer.register_forward_hook(listen(name)) for name, layer in layers.items()]
    embedded: list[torch.Tensor] = []
    handles.append(module.table.register_forward_hook(lambda _, given, out: embedded.append(out.embedded)))
    try:
        with torch.enable_grad():
            logit, _ = module(bags)
            wanted = [*outputs.values(), *(embedded if bags.fields else ())]
            found = torch.autograd.grad(logit.sum(), wanted, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    rows = {
        name: (_with_one(inputs[name].detach(), layers[name]), _double(g, outputs[name]))
        for (name, g) in zip(outputs, found)
    }
    return Jacobians(logit.detach(), rows, _double(found[-1], embedded[0]) if bags.fields else None)


def _double(gradient: torch.Tensor | None, of: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(of, dtype=torch.float64) if gradient is None else gradient.double()


def _with_one(a: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    a = a.double()
    return a if layer.bias is None else torch.cat([a, a.new_ones(len(a), 1)], dim=1)


def _entries(rows: Jacobians, bags: Bags) -> tuple[torch.Tensor, torch.Tensor]:
    """Row of each entry of the bags, and the square (entries, k) of its gradient."""
    assert rows.embedded is not None
    sizes = bags.offsets.diff()
    bag = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)
    gradient = rows.embedded.flatten(0, 1)[bag] * bags.weights.double()[:, None]
    return bag // bags.fields, gradient.square()


def added(
    evidence: dict[str, Diagonal | Kronecker], rows: Jacobians, bags: Bags, strength: torch.Tensor
) -> dict[str, Diagonal | Kronecker]:
    """Evidence with that of n rows, each of strength w_n D_n."""
    after = {name: evidence[name].added(a, g, strength) for name, (a, g) in rows.layers.items()}
    if bags.fields:
        table = evidence[TABLE]
        assert isinstance(table, Diagonal)
        row, squares = _entries(rows, bags)
        said = table.J.index_add(0, bags.slots, strength[row][:, None] * squares)
        after[TABLE] = Diagonal(table.mean, said)
    return after


def logit_variance(evidence: dict[str, Evidence], rows: Jacobians, bags: Bags, precision: float) -> torch.Tensor:
    """Variance (n) of the logit that the weights' posterior leaves, layer by layer."""
    total = torch.zeros_like(rows.logit, dtype=torch.float64)
    for name, (a, g) in rows.layers.items():
        layer = evidence[name]
        assert isinstance(layer, Diagonal | Kronecker)
        total += variance(layer, a, g, precision)
    if bags.fields:
        table = evidence[TABLE]
        assert isinstance(table, Diagonal)
        row, squares = _entries(rows, bags)
        total.index_add_(0, row, (squares / (precision + table.J[bags.slots])).sum(1))
    return total
