"""Optimiser steps over mini-batches, in the order of the rows: the only place where weights change by gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import softplus

from nearline._errors import StateError
from nearline.deep._inputs import Bags
from nearline.deep._leverage import Exposure
from nearline.deep._optimiser import Optimiser
from nearline.deep._tables import TableSteps

Floats = NDArray[np.float64]


def row_loss(link: str, label: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """ℓ(y, η) per row, as in `glmix`: log(1 + e^η) − yη, ½(y − η)² or e^η − yη."""
    if link == "logit":
        return softplus(margin) - label * margin
    return 0.5 * (label - margin) ** 2 if link == "identity" else torch.exp(margin) - label * margin


class Steps:
    """The optimisers of a network's layers and table, and their state.

    Parameters
    ----------
    module
        The network.
    settings
        Rule and step sizes.
    """

    def __init__(self, module: Any, settings: Optimiser) -> None:
        self.module, self.settings = module, settings
        layers = [p for p in module.parameters() if p is not module.table.weight and p.requires_grad]
        self.layers = _optimiser(layers, settings) if layers else None
        self.table = TableSteps(module.table, settings.rule, settings.embedding_rate)
        self.exposure = Exposure(len(module.table.weight))

    def grow(self) -> None:
        """Give new rows of the table the state of rows that no step has touched."""
        self.table.grow()
        self.exposure.grow(len(self.module.table.weight))

    def one_pass(
        self, bags: Bags, link: str, label: torch.Tensor, weight: torch.Tensor, offset: torch.Tensor
    ) -> tuple[Floats, Floats, float]:
        """One step per mini-batch on mean(ω_i ℓ_i); returns fresh margins and norms (n) and the weighted mean loss.

        Raises
        ------
        StateError
            A loss is not finite; the weights are as the step before left them.
        """
        margins, norms, losses = [], [], 0.0
        for start, stop in mini_batches(bags.rows, self.settings.batch_size):
            logit, h = self.module(bags.take(start, stop))
            margin = logit + offset[start:stop]
            loss = (weight[start:stop] * row_loss(link, label[start:stop], margin)).mean()
            value = float(loss.detach())
            if not math.isfinite(value):
                raise StateError(
                    f"the loss is {value:g} at rows {start} to {stop - 1}; lower the learning rate, or look for "
                    "extreme values there, and go on from the last saved network"
                )
            self._step(loss)
            self.exposure.count(bags.take(start, stop), weight[start:stop])
            margins.append(margin.detach())
            norms.append(norm_of(h, margin))
            losses += value * (stop - start)
        total = float(weight.sum())
        return as_numpy(margins), as_numpy(norms), losses / total if total else 0.0

    def _step(self, loss: torch.Tensor) -> None:
        if self.layers is not None:
            self.layers.zero_grad(set_to_none=True)
        loss.backward()
        if self.layers is not None:
            self.layers.step()
        self.table.step()

    def tensors(self) -> dict[str, torch.Tensor]:
        """State by name: the table's, and the layers' by parameter number."""
        found = {} if self.table.squares is None else {"table": self.table.squares}
        found |= {"seen.rows": self.exposure.rows, "seen.mass": self.exposure.mass}
        for number, parameter in enumerate(self._parameters()):
            state = self.layers.state.get(parameter, {}) if self.layers is not None else {}
            found |= {f"{number}.{name}": value for name, value in state.items() if torch.is_tensor(value)}
        return found

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Inverse of `tensors`."""
        parameters = self._parameters()
        for key, value in tensors.items():
            if key == "table":
                self.table.squares = value.clone()
            elif key.startswith("seen."):
                setattr(self.exposure, key.removeprefix("seen."), value.clone().cpu())
            elif self.layers is not None:
                number, name = key.split(".")
                self.layers.state[parameters[int(number)]][name] = value.clone()

    def _parameters(self) -> list[torch.Tensor]:
        groups = [] if self.layers is None else self.layers.param_groups
        return [parameter for group in groups for parameter in group["params"]]


def _optimiser(parameters: list[torch.Tensor], settings: Optimiser) -> torch.optim.Optimizer:
    if settings.rule == "sgd":
        return torch.optim.SGD(parameters, settings.learning_rate)
    return torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)


def mini_batches(rows: int, size: int) -> Iterator[tuple[int, int]]:
    """Row ranges of so many rows each, the last one shorter."""
    return ((start, min(start + size, rows)) for start in range(0, rows, size))


def norm_of(h: torch.Tensor | None, margin: torch.Tensor) -> torch.Tensor:
    """H = √(‖h‖² + 1) (n); 1 where no last layer is known."""
    return torch.ones_like(margin).detach() if h is None else (h.detach().square().sum(1) + 1.0).sqrt()


def as_numpy(parts: list[torch.Tensor]) -> Floats:
    """Tensors of rows as one float64 array."""
    return torch.cat(parts).cpu().numpy().astype(np.float64) if parts else np.zeros(0)
