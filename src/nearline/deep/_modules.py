"""The networks themselves: from inputs to the last layer's input h, and on to the logit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nearline._errors import ConfigError
from nearline.deep._architecture import DCN, DLRM, MLP, Architecture, Custom, InputShape
from nearline.deep._inputs import Bags, Inputs
from nearline.deep._tables import Table


def layers(width: int, hidden: Sequence[int]) -> tuple[nn.Sequential, int]:
    """Fully connected layers with ReLU, and the width of what comes out."""
    parts: list[nn.Module] = []
    for wide in hidden:
        parts += [nn.Linear(width, wide), nn.ReLU()]
        width = wide
    return nn.Sequential(*parts), width


class Deep(nn.Module):
    """`MLP` up to h."""

    def __init__(self, shape: InputShape, spec: MLP) -> None:
        super().__init__()
        self.layers, self.width = layers(shape.flat, spec.hidden)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """(n, width)."""
        return self.layers(inputs.flat)


class Cross(nn.Module):
    """One cross layer of DCN-v2: x_0 ∘ (W x + b) + x, W = U Vᵀ where a rank is given."""

    def __init__(self, width: int, rank: int | None) -> None:
        super().__init__()
        full = rank is None or rank >= width
        self.map = (
            nn.Linear(width, width)
            if full
            else nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))
        )

    def forward(self, first: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """(n, width)."""
        return first * self.map(x) + x


class CrossAndDeep(nn.Module):
    """`DCN` up to h = [x_L; mlp(x_0)]."""

    def __init__(self, shape: InputShape, spec: DCN) -> None:
        super().__init__()
        self.cross = nn.ModuleList(Cross(shape.flat, spec.rank) for _ in range(spec.cross_layers))
        self.layers, deep = layers(shape.flat, spec.hidden)
        self.width = shape.flat + (deep if spec.hidden else 0)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """(n, width)."""
        first = x = inputs.flat
        for cross in self.cross:
            x = cross(first, x)
        return torch.cat([x, self.layers(first)], dim=1) if len(self.layers) else x


class Dots(nn.Module):
    """`DLRM` up to h: dot products of all pairs of embeddings, the bottom network's included."""

    def __init__(self, shape: InputShape, spec: DLRM) -> None:
        super().__init__()
        k = shape.embedding
        self.bottom = layers(len(shape.dense), (*spec.bottom, k))[0] if shape.dense else None
        vectors = len(shape.fields) + (self.bottom is not None)
        self.register_buffer("pairs", torch.triu_indices(vectors, vectors, 1), persistent=False)
        width = k * (self.bottom is not None) + vectors * (vectors - 1) // 2
        if not width:
            raise ConfigError(f"DLRM needs two columns to multiply, or a numeric one; it has {list(shape.fields)}")
        self.top, self.width = layers(width, spec.top)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """(n, width)."""
        bottom = [] if self.bottom is None else [self.bottom(inputs.dense)]
        z = torch.cat([*(b[:, None] for b in bottom), inputs.embedded], dim=1)
        dots = torch.bmm(z, z.transpose(1, 2))[:, self.pairs[0], self.pairs[1]]
        return self.top(torch.cat([*bottom, dots], dim=1))


_BODIES: dict[type, Any] = {MLP: Deep, DCN: CrossAndDeep, DLRM: Dots}


class Scored(nn.Module):
    """Table, body and last layer of a ready network.

    Attributes
    ----------
    head
        The last layer, from h to the logit.
    """

    def __init__(self, shape: InputShape, spec: Architecture, table: Table) -> None:
        super().__init__()
        self.table, self.body = table, _BODIES[type(spec)](shape, spec)
        self.head: nn.Module | None = nn.Linear(self.body.width, 1)

    def forward(self, bags: Bags) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logit (n) and h (n, width)."""
        h = self.body(self.table(bags))
        assert self.head is not None
        return self.head(h).squeeze(1), h


class ScoredCustom(nn.Module):
    """Table and a user's module, with its last layer listened to."""

    def __init__(self, shape: InputShape, spec: Custom, table: Table) -> None:
        super().__init__()
        self.table, self.body = table, spec.factory(shape)
        if not isinstance(self.body, nn.Module):
            raise ConfigError(f"custom({spec.name}) must make a torch.nn.Module, not {type(self.body).__name__}")
        self._h: torch.Tensor | None = None
        if self.head is not None:
            self.head.register_forward_pre_hook(self._listen)

    @property
    def head(self) -> nn.Module | None:
        """The module's ``head``, else its last linear layer with one output."""
        named = getattr(self.body, "head", None)
        outputs = [m for m in self.body.modules() if isinstance(m, nn.Linear) and m.out_features == 1]
        return named if isinstance(named, nn.Module) else outputs[-1] if outputs else None

    def _listen(self, _: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        self._h = arguments[0]

    def forward(self, bags: Bags) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logit (n), and h (n, width) where there is a last layer."""
        logit = self.body(self.table(bags))
        h, self._h = self._h, None
        if logit.numel() != bags.rows:
            raise ConfigError(f"the network gave {tuple(logit.shape)} for {bags.rows} rows; return one logit per row")
        return logit.reshape(-1), h


def build(shape: InputShape, spec: Architecture, seed: int, dtype: torch.dtype) -> Scored | ScoredCustom:
    """A network with its first weights, which follow from the seed; torch's global random state stays as it was."""
    if not shape.dense and not shape.fields and not isinstance(spec, Custom):
        raise ConfigError("the network has no columns; name at least one")
    table = Table(spec.embedding, seed, dtype)
    made = ScoredCustom if isinstance(spec, Custom) else Scored
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return made(shape, spec, table).to(dtype)  # type: ignore[arg-type]
