"""How a network is trained: settings only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nearline._errors import ConfigError


@dataclass(frozen=True, slots=True)
class Optimiser:
    """Rule, step sizes and mini-batch size.

    Parameters
    ----------
    rule
        ``"adam"``: AdamW for layers, AdaGrad for embeddings, touched rarely; ``"sgd"``: plain descent for both.
    learning_rate, embedding_rate
        Step sizes of layers and of embeddings.
    weight_decay
        Decoupled decay of the layers' weights per step, times the learning rate (``"adam"``); embeddings do not decay.
    batch_size
        Rows per step.

    Examples
    --------
    >>> Optimiser(learning_rate=0.003).batch_size
    256
    """

    rule: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 1e-3
    embedding_rate: float = 0.02
    weight_decay: float = 0.0
    batch_size: int = 256

    def __post_init__(self) -> None:
        if self.rule not in ("adam", "sgd"):
            raise ConfigError(f"Optimiser(rule=...) is 'adam' or 'sgd', got {self.rule!r}")
        for name in ("learning_rate", "embedding_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"Optimiser({name}=...) must be > 0, got {getattr(self, name)!r}")
        if not 0 <= self.weight_decay < float("inf") or self.batch_size < 1:
            raise ConfigError(f"Optimiser needs weight_decay >= 0 and batch_size >= 1, got {self}")
        if self.rule == "sgd" and self.weight_decay:
            raise ConfigError("Optimiser(weight_decay=...) needs rule='adam'; plain descent has none")
