"""NetworkGLMix: the random effects of a running service, with a network's calibrated log-odds as their offset.

    η_n = (shift + slope · network(x_n)) + b + Σ_r z_{r,n}ᵀ β_{r, id_r(n)}

It is a `GLMix` to whoever learns, corrects, saves or plays it, so that the live loop needs to know no other model. What
serving recorded of a prediction is not computed again: a table may bring the log-odds that this very network gave.
torch is imported by the network that it is given, not here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline._errors import ConfigError, StateError
from nearline.deep._recorded import LOGIT, NETWORK, is_recorded
from nearline.features import Design
from nearline.glmix import GLMix
from nearline.schema import Rejects, read_table

if TYPE_CHECKING:
    from nearline.deep._glmix import Calibration
    from nearline.deep._network import Network
    from nearline.deep._passes import Trained

Floats = NDArray[np.float64]


class NetworkGLMix(GLMix):
    """A GLMix on a network's log-odds; made by `of` or `load_model`.

    Attributes
    ----------
    network, calibration
        The fixed part. It does not change while the model is served: another network is another version.

    Examples
    --------
    >>> from nearline import Random, Schema
    >>> from nearline.deep import Network
    >>> schema = Schema(label="clicked")
    >>> model = NetworkGLMix.of(GLMix(schema, random=[Random("user")]), Network(schema, ["price"]))
    >>> rows = {"user": [1, 2, 1, 2], "price": [1.0, 2.0, 3.0, 4.0], "clicked": [1, 0, 1, 0]}
    >>> trained = model.fit_network([rows], epochs=1)
    >>> model.partial_fit(rows).rows, model.predict_proba(rows).shape
    (4, (4,))
    >>> told = rows | {"network_logit": [0.5, 0.5, 0.5, 0.5]}
    >>> model.design(told, learn=False)[0].offset.tolist()
    [0.5, 0.5, 0.5, 0.5]
    """

    network: Network
    calibration: Calibration
    _identity: int | None

    @classmethod
    def of(
        cls, effects: GLMix, network: Network, calibration: Calibration | None = None, identity: int | None = None
    ) -> NetworkGLMix:
        """Put effects, whose state is taken over, on a network; `identity` where it is known already."""
        from nearline.deep._glmix import Calibration, DeepGLMix

        checked = DeepGLMix(network, effects, calibration=calibration or Calibration())
        taken = sorted(name for name in {*network.columns, *effects.encoder.features} if is_recorded(name))
        if taken:
            raise ConfigError(f"column {taken[0]!r} has the name of a column that is recorded; rename it")
        model = cls.__new__(cls)
        vars(model).update(vars(effects))
        model.network, model.calibration, model._identity = network, checked.calibration, identity
        return model

    def effects(self) -> GLMix:
        """The random effects alone, with the state of this model."""
        plain = GLMix.__new__(GLMix)
        own = ("network", "calibration", "_identity")
        vars(plain).update({name: value for name, value in vars(self).items() if name not in own})
        return plain

    @property
    def identity(self) -> int:
        """Which network this is: a hash of its weights and calibration, recorded with every prediction."""
        if self._identity is None:
            found = hashlib.sha256(repr(astuple(self.calibration)).encode())
            for name, tensor in sorted(self.network.module.state_dict().items()):
                found.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
            self._identity = int.from_bytes(found.digest()[:8], "little", signed=True)
        return self._identity

    @property
    def columns(self) -> tuple[str, ...]:
        """Feature columns that the network reads."""
        return self.network.columns

    def recorded(self, taken: pa.Table) -> dict[str, Any]:
        """Log-odds of rows of the predictions log, where this network gave them; NaN where it is another's.

        Empty where the network is not trained yet, or nothing was recorded.
        """
        if not self.network.trained or NETWORK not in taken.column_names:
            return {}
        own = np.asarray(pa.compute.equal(taken.column(NETWORK), self.identity).fill_null(False))
        given = taken.column(LOGIT).cast(pa.float64()).fill_null(np.nan).to_numpy()
        return {LOGIT: np.where(own, given, np.nan)}

    def design(self, table: Any, *, learn: bool, divert: bool = False) -> tuple[Design, Rejects]:
        """As `GLMix.design`, the network's log-odds in the offset; a column ``network_logit`` that is not NaN is taken
        for them.
        """
        if isinstance(table, Design):
            return super().design(table, learn=learn, divert=divert)
        rows = read_table(table)
        design, rejects = super().design(rows, learn=learn, divert=divert)
        if len(rejects.rows):
            rows = rows.take(np.setdiff1d(np.arange(rows.num_rows), rejects.rows))
        return replace(design, offset=design.offset + self._fixed_part(rows)), rejects

    def _fixed_part(self, table: pa.Table) -> Floats:
        if LOGIT not in table.column_names:
            return self._forward(table)
        known = np.array(table.column(LOGIT).cast(pa.float64()).fill_null(np.nan).to_numpy())
        missing = np.flatnonzero(np.isnan(known))
        if len(missing):
            known[missing] = self._forward(table.take(missing))
        return known

    def _forward(self, table: pa.Table) -> Floats:
        design, _ = self.network.design(table, learn=False)
        return self.log_odds(self.network.decision_function(design) - design.offset)

    def log_odds(self, logit: Floats) -> Floats:
        """Calibrated log-odds (n), in the precision in which they are recorded: replays have the bits of serving."""
        return self.calibration(logit).astype(np.float32).astype(np.float64)

    def told(self, table: Any) -> pa.Table:
        """A table with the network's log-odds in it, for several designs after one forward pass."""
        rows = read_table(table)
        log_odds = pa.array(self._fixed_part(rows))
        return rows.drop_columns([name for name in (LOGIT,) if name in rows.column_names]).append_column(
            LOGIT, log_odds
        )

    def folded(self) -> Network:
        """A copy of the network with the calibration in its last layer, to be trained on: its logit is calibrated.

        Raises
        ------
        StateError
            Its last layer is not known (a custom module without one).
        """
        network = self.network.fork()
        head = getattr(network.module, "head", None)
        if head is None or head.bias is None:
            if self.calibration == type(self.calibration)():
                return network
            raise StateError("the network has no last layer with a bias that could take the calibration; fit it anew")
        head.weight.data.mul_(self.calibration.slope)
        head.bias.data.mul_(self.calibration.slope).add_(self.calibration.shift)
        return network

    def fit_network(self, tables: Sequence[Any], *, epochs: int = 3, held_out: float = 0.1) -> Trained:
        """Train the network and its calibration on tables, one after the other; see `DeepGLMix.fit`."""
        from nearline.deep._glmix import fit_network

        if not tables:
            raise StateError("there is nothing to train the network on")
        for number, table in enumerate(tables):
            trained, self.calibration = fit_network(
                self.network, read_table(table), epochs=epochs, held_out=held_out, warm=number > 0
            )
        self._identity = None
        return trained

    @staticmethod
    def use_one_thread() -> None:
        """Let torch use one thread in this process: the bits of a forward pass do not depend on the machine, and small
        requests do not wait for one another's threads.
        """
        import torch

        torch.set_num_threads(1)

    def nbytes(self) -> int:
        """Bytes held by the posteriors and by the network's weights."""
        held = self.network.module.parameters() if self.network.trained else ()
        return super().nbytes() + sum(tensor.numel() * tensor.element_size() for tensor in held)

    def fork(self) -> NetworkGLMix:
        """An independent model with the same posteriors, on the same network."""
        return NetworkGLMix.of(super().fork(), self.network, self.calibration, self._identity)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write both parts, as `DeepGLMix.save` does."""
        from nearline.deep._glmix import DeepGLMix

        return DeepGLMix(self.network, self.effects(), calibration=self.calibration).save(folder)

    def __repr__(self) -> str:
        return f"{super().__repr__()} on {self.network!r}"


def load_model(folder: str | os.PathLike[str], *, device: str = "cpu") -> GLMix:
    """The model of a version's folder: a `GLMix`, or a `NetworkGLMix` where a network was saved with it.

    Raises
    ------
    ConfigError
        It has a network, and torch is not installed.
    """
    from nearline.deep import _torch
    from nearline.deep._kinds import is_pair

    if not is_pair(Path(folder)):
        return GLMix.load(folder)
    _torch.require()
    from nearline.deep._glmix import DeepGLMix

    pair = DeepGLMix.load(folder, device=device)
    return NetworkGLMix.of(pair.effects, pair.network, pair.calibration)
