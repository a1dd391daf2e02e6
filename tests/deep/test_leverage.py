"""Leverage: what the rows trained on say of a row's values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.deep.parts import QUICK

from nearline import Categorical, ConfigError, Multi, Schema
from nearline.deep import MLP, Network


class TestLeverage:
    """ℓ = D/k + Σ_j x_j² (1 + N) / (1 + M_j), from the weighted rows that were trained on."""

    def rows(self, n: int = 60) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        return {
            "ad": rng.choice(list("abcd"), n, p=[0.6, 0.2, 0.15, 0.05]).tolist(),
            "tags": rng.choice(["r|s|t", "r|s", "r", ""], n).tolist(), "y": rng.integers(0, 2, n).tolist(),
        }  # fmt: skip

    def trained(self) -> tuple[Network, dict[str, Any], np.ndarray]:
        schema = Schema(label="y", columns={"ad": Categorical(), "tags": Multi("|")})
        network = Network(schema, ["ad", "tags"], architecture=MLP((4,), embedding=2), optimiser=QUICK)
        rows, weight = self.rows(), np.random.default_rng(1).exponential(size=60)
        network.partial_fit(rows, weight=weight)
        return network, rows, weight

    def test_it_is_what_the_equation_says_however_the_rows_were_cut(self) -> None:
        network, rows, weight = self.trained()
        parts = [[text] for text in rows["ad"]], [text.split("|") if text else [] for text in rows["tags"]]
        layers = sum(p.numel() for name, p in network.module.named_parameters() if "table" not in name) / 2
        expected = np.full(60, layers)
        for field in parts:
            values = sorted({value for row in field for value in row})
            x = np.array([[(value in row) / max(len(row), 1) for value in values] for row in field])
            mass = weight @ x**2
            expected += (x**2 * (1 + weight.sum()) / (1 + mass)).sum(axis=1)
        np.testing.assert_allclose(network.leverage(rows, ["ad", "tags"]), expected, rtol=1e-5)

    def test_only_the_columns_named_count_and_a_forward_pass_is_not_needed(self) -> None:
        network, rows, _ = self.trained()
        before = network.passes.forwards
        assert len(set(network.leverage(rows, []).tolist())) == 1
        assert len(set(network.leverage(rows, ["ad"]).tolist())) == 4
        assert network.passes.forwards == before
        with pytest.raises(ConfigError, match="age"):
            network.leverage(rows, ["age"])

    def test_other_columns_are_not_needed(self) -> None:
        network, rows, _ = self.trained()
        for columns in (["ad"], ["tags"], ["tags", "ad"]):
            alone = network.leverage({name: rows[name] for name in columns}, columns)
            assert np.array_equal(alone, network.leverage(rows, columns))

    def test_a_value_without_a_slot_counts_as_never_trained_on_and_gets_none(self) -> None:
        network, rows, weight = self.trained()
        layers, before = network.leverage(rows, [])[0], network.encoder.n_slots
        once, known = 1 + weight.sum(), network.leverage({"tags": ["r"]}, ["tags"])[0] - layers
        new = {"ad": ["z", "a"], "tags": ["u", "r|u"]}
        found = network.leverage(new, ["ad"]), network.leverage(new, ["tags"])
        assert found[0][0] == pytest.approx(layers + once)
        assert found[1] == pytest.approx([layers + once, layers + once / 4 + known / 4])
        assert network.encoder.n_slots == before
        # Nor does it matter whether a twin, which shares the vocabulary, has met the value.
        network.fork().partial_fit({**new, "y": [0, 1]})
        assert network.encoder.n_slots > before
        for columns, held in zip((["ad"], ["tags"]), found):
            assert np.array_equal(network.leverage(new, columns), held)
            assert np.array_equal(network.leverage(network.design(new, learn=False)[0], columns), held)

    def test_it_is_saved_and_forked_with_the_network(self, tmp_path: Path) -> None:
        network, rows, _ = self.trained()
        held = network.leverage(rows, ["ad", "tags"])
        twin = network.fork()
        twin.partial_fit(rows)
        assert np.array_equal(network.leverage(rows, ["ad", "tags"]), held)
        assert not np.array_equal(twin.leverage(rows, ["ad", "tags"]), held)
        again = Network.load(network.save(tmp_path / "network"))
        assert np.array_equal(again.leverage(rows, ["ad", "tags"]), held)
