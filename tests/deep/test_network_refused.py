"""What a network refuses: tables, weights, settings, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.deep.parts import Mine, fitted, network, table, torch

from nearline import ConfigError, DataError, Schema, StateError
from nearline.deep import MLP, Network, Optimiser, custom


class TestWhatIsRefused:
    def test_scoring_before_any_table(self) -> None:
        with pytest.raises(StateError, match="seen no table"):
            network().predict_proba(table(3))

    def test_a_loss_that_is_not_finite(self) -> None:
        wild = Optimiser("sgd", learning_rate=1e30, embedding_rate=1.0, batch_size=16)
        with pytest.raises(StateError, match="lower the learning rate"):
            network(optimiser=wild).fit(table(200), epochs=3)

    @pytest.mark.parametrize("bad", [[1.0, 2.0], [-1.0] * 10, [np.nan] * 10])
    def test_bad_weights(self, bad: list[float]) -> None:
        with pytest.raises(DataError, match="weight"):
            network().partial_fit(table(10), weight=bad)

    def test_a_vector_of_unknown_length(self) -> None:
        with pytest.raises(DataError, match="length is unknown"):
            network().partial_fit({**table(3), "v": [None] * 3})

    def test_settings_that_cannot_be_meant(self) -> None:
        with pytest.raises(ConfigError, match="none that torch knows"):
            network(device="abacus")
        with pytest.raises(ConfigError, match="float16"):
            network(dtype="float16")
        with pytest.raises(ConfigError, match="batch_size"):
            Optimiser(batch_size=0)
        with pytest.raises(ConfigError, match="weight_decay"):
            Optimiser("sgd", weight_decay=0.1)
        with pytest.raises(ConfigError, match="at least 1"):
            MLP((0,))
        with pytest.raises(ConfigError, match="epochs"):
            network().fit(table(3), epochs=0)
        if not torch.cuda.is_available():
            with pytest.raises(ConfigError, match="sees no CUDA"):
                network(device="cuda")

    def test_a_custom_network_without_its_code(self, tmp_path: Path) -> None:
        fitted(network(custom(Mine, embedding=4))).save(tmp_path / "net")
        with pytest.raises(StateError, match="Mine"):
            Network.load(tmp_path / "net")
        with pytest.raises(StateError, match="not as the architecture given"):
            Network.load(tmp_path / "net", architecture=MLP())

    def test_an_altered_file(self, tmp_path: Path) -> None:
        fitted(network()).save(tmp_path)
        path = next(tmp_path.glob("state-*"))
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        with pytest.raises(StateError, match="altered"):
            Network.load(tmp_path)

    def test_another_kind_of_model(self, tmp_path: Path) -> None:
        from nearline import Fixed, GLMix

        GLMix(Schema(label="y"), Fixed()).save(tmp_path / "glmix")
        with pytest.raises(StateError, match="holds a GLMix"):
            Network.load(tmp_path / "glmix")
        fitted(network()).save(tmp_path / "network")
        with pytest.raises(StateError, match="holds a network"):
            GLMix.load(tmp_path / "network")
