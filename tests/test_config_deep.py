"""`[fixed.network]` and `[deep]`: what they make, and errors that name the table, the key and the fix."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="nearline.deep needs torch: pip install 'nearline[deep]'")

from nearline import ConfigError
from nearline.config import loads
from nearline.deep import DCN, DLRM, MLP, NetworkGLMix, Optimiser

BASE = '[schema]\nlabel = "clicked"\n\n[fixed]\non = ["price", "device"]\n\n[[random]]\nkey = "member"\n\n'
NETWORK = "[fixed.network]\n"


def test_a_network_reads_the_columns_of_the_fixed_effect() -> None:
    model = loads(BASE + NETWORK + 'kind = "dcn"\nhidden = [8]\nrank = 2\nlearning_rate = 0.01\nseed = 3\n').model()
    assert isinstance(model, NetworkGLMix)
    assert model.network.columns == ("price", "device")
    assert model.network.architecture == DCN(hidden=(8,), rank=2)
    assert (model.network.optimiser, model.network.seed) == (Optimiser(learning_rate=0.01), 3)
    assert model.encoder.features == ()
    assert [block.name for block in model.blocks] == ["fixed", "member"]


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("hidden = [4, 2]\nembedding = 3", MLP((4, 2), 3)),
        ('kind = "dlrm"\nbottom = [4]\ntop = [5]', DLRM((4,), (5,))),
        ('kind = "dcn"\ncross_layers = 3', DCN(3)),
    ],
)
def test_every_kind_has_its_sizes(text: str, made: object) -> None:
    model = loads(BASE + NETWORK + text).model()
    assert isinstance(model, NetworkGLMix)
    assert model.network.architecture == made


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (NETWORK + 'kind = "cnn"', ("[fixed.network] kind", "'mlp'")),
        (NETWORK + "hiden = [4]", ("[fixed.network]", "'hiden'", "'hidden'")),
        (NETWORK + "rank = 4", ("[fixed.network] rank", "'mlp'", "hidden, embedding")),
        (NETWORK + "hidden = [0]", ("[fixed.network]", "at least 1")),
        (NETWORK + "epochs = 0", ("[fixed.network] epochs", "at least 1")),
        (NETWORK + "learning_rate = -1.0", ("[fixed.network]", "learning_rate")),
        (NETWORK + '[deep]\nselect = "ppss"', ("[deep] select", "pps")),
        (NETWORK + '[deep]\nselect = "biggest_k"', ("[deep]", "select", "not calibrated", "'pps'")),
        (NETWORK + "[deep]\nbudget = 1.5", ("[deep] budget", "at most 1")),
        (NETWORK + "[deep]\nwindow = 0", ("[deep] window", "at least 1")),
        (NETWORK + '[deep]\nevery = "soon"', ("[deep] every",)),
        (NETWORK + "[deep]\nexamples = 0", ("[deep] examples", "at least 1")),
        (NETWORK + '[deep]\ntrim = "mad"', ("[deep]", "trim", "clip")),
        (NETWORK + '[deep]\nshadow = "x"', ("[deep] shadow",)),
        ("[deep]\nbudget = 0.2", ("[deep]", "[fixed.network]")),
    ],
)
def test_errors_name_the_table_the_key_and_the_fix(text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(BASE + text)
    for word in words:
        assert word in str(caught.value)


def test_a_network_needs_columns_and_owns_the_offset() -> None:
    with pytest.raises(ConfigError, match=r"\[fixed\] on"):
        loads('[schema]\nlabel = "y"\n[fixed.network]\n')
    with pytest.raises(ConfigError, match=r"\[schema\] offset"):
        loads('[schema]\nlabel = "y"\noffset = "o"\n[fixed]\non = ["x"]\n[fixed.network]\n')


def test_a_backtest_refuses_a_network() -> None:
    with pytest.raises(ConfigError, match=r"\[fixed.network\]"):
        loads(BASE + NETWORK).backtest({"price": [1.0]})


def test_without_torch_the_error_names_the_extra_and_reading_a_file_imports_no_torch() -> None:
    hide = """
import sys, importlib.machinery as m
real = m.PathFinder.find_spec
m.PathFinder.find_spec = classmethod(lambda c, name, *a: None if name == "torch" else real(name, *a))
"""
    read = f"""
import sys
from nearline.config import loads
try:
    loads({BASE + NETWORK!r})
except Exception as error:
    print(type(error).__name__, error)
print("torch" in sys.modules)
"""
    for before, words in (
        (hide, ("ConfigError", "[fixed.network]", "pip install 'nearline[deep]'", "False")),
        ("", ("False",)),
    ):
        done = subprocess.run([sys.executable, "-c", before + read], capture_output=True, text=True, check=True)
        for word in words:
            assert word in done.stdout
