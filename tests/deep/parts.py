"""Tables with a cross that no linear model has, and networks that read them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearline import Categorical, Hashed, Multi, Numeric, Schema, Vector

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'nearline[deep]'")

from nearline.deep import DCN, DLRM, MLP, Network, Optimiser  # noqa: E402

SCHEMA = Schema(
    label="y", weight="w", offset="o",
    columns={"x": Numeric(), "v": Vector(), "ad": Categorical(), "tags": Multi("|"), "text": Hashed(bits=6)},
)  # fmt: skip
COLUMNS = ["x", "v", "ad", "tags", "text"]
READY = [
    MLP((8,), embedding=4),
    MLP((), embedding=4),
    DCN(2, None, (8,), embedding=4),
    DCN(2, 2, (), embedding=4),
    DLRM((8,), (8,), embedding=4),
]
QUICK = Optimiser(learning_rate=0.01, embedding_rate=0.1, batch_size=64)


class Mine(torch.nn.Module):
    """A user's own: two outputs side by side, one of them the last layer."""

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.first = torch.nn.Linear(shape.flat, 16)
        self.head = torch.nn.Linear(16, 1)

    def forward(self, inputs: Any) -> torch.Tensor:
        return self.head(torch.relu(self.first(inputs.flat)))


def table(n: int = 300, seed: int = 0, ads: int = 6) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x, ad = rng.normal(size=n), rng.integers(0, ads, n)
    tags = ["|".join(f"t{t}" for t in rng.choice(5, rng.integers(0, 4), replace=False)) for _ in range(n)]
    v = rng.normal(size=(n, 3))
    eta = 1.5 * x * np.where(ad % 2, 1, -1) + 0.8 * v[:, 0]
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)
    x[rng.random(n) < 0.05] = np.nan
    return {
        "x": x, "v": v.tolist(), "ad": [f"a{i}" for i in ad], "tags": tags, "text": [f"w{i % 40}" for i in range(n)],
        "y": y, "w": np.ones(n), "o": np.zeros(n),
    }  # fmt: skip


def network(architecture: Any = READY[0], **options: Any) -> Network:
    return Network(SCHEMA, COLUMNS, architecture=architecture, **{"optimiser": QUICK, "seed": 3, **options})


def weights(of: Network) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in of.module.state_dict().items()}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def fitted(net: Network) -> Network:
    net.fit(table(200), epochs=1)
    return net
