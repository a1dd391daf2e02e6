"""What kind of network: settings only, so that they can be written down, compared and saved without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from nearline._errors import ConfigError, StateError


@dataclass(frozen=True, slots=True)
class InputShape:
    """What a network is given per row: so many dense numbers, and one embedding of so many numbers per field.

    Attributes
    ----------
    dense
        Names of the dense inputs: a number and its "(missing)" indicator, the positions of a vector.
    fields
        Columns that enter by embedding: categorical, multi-valued and hashed ones.
    embedding
        Length of an embedding.
    keys
        Key columns whose entity codes come along.
    """

    dense: tuple[str, ...]
    fields: tuple[str, ...]
    embedding: int
    keys: tuple[str | tuple[str, ...], ...] = ()

    @property
    def flat(self) -> int:
        """Length of all inputs side by side."""
        return len(self.dense) + len(self.fields) * self.embedding


@dataclass(frozen=True, slots=True)
class MLP:
    """Embeddings and dense numbers side by side, through fully connected layers with ReLU.

        h = relu(W_L … relu(W_1 [dense; embeddings] + b_1) … + b_L),    logit = wᵀh + b

    With ``hidden=()`` and no embedded columns it is a linear model.

    Examples
    --------
    >>> MLP(hidden=(32,))
    MLP(hidden=(32,), embedding=16)
    """

    hidden: tuple[int, ...] = (64, 32)
    embedding: int = 16

    def __post_init__(self) -> None:
        _check(self, self.hidden)


@dataclass(frozen=True, slots=True)
class DCN:
    """DCN-v2: explicit feature crosses beside a deep part, both read by the last layer.

        x_{l+1} = x_0 ∘ (W_l x_l + b_l) + x_l,    W_l full, or U_l V_lᵀ of the given rank;    h = [x_L; mlp(x_0)]

    Source: Wang et al., DCN V2 (arXiv 2008.13535), eq. 1 and 2, the parallel structure.

    Parameters
    ----------
    cross_layers
        Number of cross layers: the highest degree of a cross is one more.
    rank
        Rank of the cross matrices; None is full.
    hidden
        Widths of the deep part; () leaves it out.
    """

    cross_layers: int = 2
    rank: int | None = None
    hidden: tuple[int, ...] = (64, 32)
    embedding: int = 16

    def __post_init__(self) -> None:
        _check(self, self.hidden)
        if self.cross_layers < 1 or (self.rank is not None and self.rank < 1):
            raise ConfigError(f"DCN needs cross_layers >= 1 and rank >= 1 or None, got {self}")


@dataclass(frozen=True, slots=True)
class DLRM:
    """Pairwise dot products of embeddings, after a bottom network has made the dense numbers one more embedding.

        h = mlp_top([bottom; {z_iᵀ z_j : i < j}]),    z = embeddings and bottom = mlp_bottom(dense)

    Source: Naumov et al., DLRM (arXiv 1906.00091). Tables grow with new values; `Hashed` columns bound them.
    """

    bottom: tuple[int, ...] = (64,)
    top: tuple[int, ...] = (64, 32)
    embedding: int = 16

    def __post_init__(self) -> None:
        _check(self, (*self.bottom, *self.top))


@dataclass(frozen=True)
class Custom:
    """A network of your own: see `custom`."""

    factory: Callable[[InputShape], Any]
    name: str
    embedding: int = 16

    def __post_init__(self) -> None:
        _check(self, ())


Architecture: TypeAlias = MLP | DCN | DLRM | Custom
_READY: dict[str, Any] = {kind.__name__: kind for kind in (MLP, DCN, DLRM)}


def custom(factory: Callable[[InputShape], Any], *, name: str | None = None, embedding: int = 16) -> Custom:
    """Any `torch.nn.Module`: `factory(shape)` makes it, its ``forward(inputs: Inputs)`` returns n logits.

    The last layer, whose inputs are recorded as h, is the module's attribute ``head``, else its last `torch.nn.Linear`
    with one output; without one, H = 1 is recorded. Code is not saved: give the architecture again to `Network.load`.
    """
    return Custom(factory, name or str(getattr(factory, "__qualname__", type(factory).__name__)), embedding)


def architecture_state(architecture: Architecture) -> dict[str, Any]:
    """Architecture as JSON; of a custom one its name, no code."""
    if isinstance(architecture, Custom):
        return {"kind": "Custom", "name": architecture.name, "embedding": architecture.embedding}
    return {"kind": type(architecture).__name__, **asdict(architecture)}


def architecture_from(state: Mapping[str, Any], given: Architecture | None) -> Architecture:
    """Inverse of `architecture_state`; a custom architecture must be given, and must be the one that was saved.

    Raises
    ------
    StateError
        A custom architecture is not given, or what is given is not what was saved.
    """
    if state["kind"] == "Custom" and given is None:
        raise StateError(
            f"the network is {state['name']!r}, made by code that is not saved; Network.load(folder, architecture=...)"
        )
    if given is not None:
        if architecture_state(given) != _plain(state):
            raise StateError(f"the network was saved as {dict(state)}, not as the architecture given, {given}")
        return given
    options = {name: tuple(v) if isinstance(v, list) else v for name, v in state.items() if name != "kind"}
    made: Architecture = _READY[state["kind"]](**options)
    return made


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in state.items()}


def _check(architecture: Any, widths: Sequence[int]) -> None:
    if architecture.embedding < 1 or any(width < 1 for width in widths):
        raise ConfigError(f"widths and embedding must be at least 1: {architecture}")
