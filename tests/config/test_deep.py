"""`[fixed.network]` and `[deep]`: what they make, and errors that name the table, the key and the fix."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch", reason="nearline.deep needs torch: pip install 'nearline[deep]'")

from nearline import ConfigError
from nearline.cli._app import app
from nearline.config import loads
from nearline.deep import DCN, DLRM, MLP, NetworkGLMix, Optimiser
from nearline.select import by_name

BASE = '[schema]\nlabel = "clicked"\n\n[fixed]\non = ["price", "device"]\n\n[[random]]\nkey = "member"\n\n'
NETWORK = "[fixed.network]\n"
PRICED = '[deep]\nleverage = ["price"]\nselect = { rule = "pps", leverage = true }\n'


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
        (NETWORK + '[deep]\nshadow = "x"', ("[deep] shadow", "no rule is called 'x'")),
        (NETWORK + "[deep]\nselect = 3", ("[deep] select", "a string or a table")),
        (NETWORK + "[deep]\nselect = { floor = 0.1 }", ("[deep.select] rule", 'rule = "pps"')),
        (NETWORK + '[deep]\nselect = { rule = "ppss" }', ("[deep.select] rule", "'ppss'", "pps")),
        (NETWORK + '[deep]\nselect = { rule = "pps", flor = 0.1 }', ("[deep.select]", "'flor'", "mean 'floor'")),
        (NETWORK + '[deep]\nselect = { rule = "pps", floor = "a" }', ("[deep.select] floor", "a number")),
        (
            NETWORK + '[deep]\nselect = { rule = "pps", leverage = true }',
            ("[deep] leverage", "'select'", "name the col"),
        ),
        (NETWORK + '[deep]\nshadow = { rule = "pps", order = "slice" }', ("[deep] slices", "'shadow'", "slices = ")),
        (NETWORK + '[deep]\nslices = "member"', ("[deep] slices = 'member'", "no rule", 'order = "slice"', "leave")),
        (NETWORK + '[deep]\nleverage = ["device"]', ("[deep] leverage", "no rule", "leverage = true", "leave it out")),
        (
            NETWORK + '[deep]\nslices = "membr"\nselect = { rule = "cube", balance = ["slice_error"] }',
            ("[deep] slices = 'membr'", "not recorded", "mean 'member'"),
        ),
        (
            NETWORK + '[deep]\nleverage = ["member"]\nselect = { rule = "pps", leverage = true }',
            ("[deep] leverage", "does not read 'member'", "'device', 'price'"),
        ),
        (
            f'{NETWORK}[schema.columns]\nprice = {{ kind = "numeric" }}\n{PRICED}',
            ("[deep] leverage: 'price' is numeric", "leave it out, or declare it categorical ([schema.columns])"),
        ),
        (
            f'{NETWORK}[schema.columns]\nprice = {{ kind = "vector" }}\n{PRICED}',
            ("[deep] leverage: 'price' is vector", "trained on; leave it out"),
        ),
        (NETWORK + '[deep]\nselect = { rule = "pps", floor = 3 }', ("[deep.select]", "floor = 3", "between 0 and 1")),
        (NETWORK + '[deep]\nshadow = { rule = "pps", sampler = "cub" }', ("[deep.shadow] sampler", "mean 'cube'")),
        (NETWORK + '[deep]\nselect = { rule = "cube", balance = "loss" }', ("[deep.select] balance", "a list")),
        (NETWORK + '[deep]\nselect = { rule = "cube", balance = ["slice"] }', ("[deep] slices", "'select'")),
        (NETWORK + '[deep]\nselect = { rule = "cube", balance = ["held"] }', ("[deep.select] balance", "'held'")),
        (NETWORK + '[deep]\nselect = { rule = "cube", balance = ["los"] }', ("[deep.select]", "'los'", "loss")),
        (NETWORK + '[deep]\nselect = { rule = "label_balanced", weighted = false }', ("[deep.select]", "unweighted")),
        (NETWORK + '[deep]\nshadow = { rule = "uniform", b = 1 }', ("[deep.shadow]", "'b'", "it has none")),
        (NETWORK + "[deep]\nsketch = 300", ("[deep] sketch", "between 0 and 256")),
        (
            NETWORK + '[deep]\nsketch = 0\nshadow = { rule = "cube", balance = ["sketch"] }',
            ("[deep] sketch", "'shadow'"),
        ),
        (NETWORK + "[deep]\nmax_version_lag = -1", ("[deep] max_version_lag", "at least 0")),
        ("[deep]\nbudget = 0.2", ("[deep]", "[fixed.network]")),
    ],
)
def test_errors_name_the_table_the_key_and_the_fix(text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(BASE + text)
    for word in words:
        assert word in str(caught.value)


def test_a_rule_has_its_parameters_and_has_what_it_needs_recorded() -> None:
    best = '{ rule = "pps", floor = 0.1, trust = "cells", sampler = "cube", balance = ["sketch", "loss"] }'
    found = loads(f"{BASE}{NETWORK}[deep]\nselect = {best}\nshadow = 'pps'\nmax_version_lag = 2\nmax_age = '1h'\n")
    training = found.deep()
    assert training.policy.rule == by_name("pps", floor=0.1, trust="cells", sampler="cube", balance=("sketch", "loss"))
    assert (training.policy.max_version_lag, training.policy.max_age) == (2, 3600.0)
    assert training.shadow is not None
    assert (training.shadow.rule, training.shadow.max_age) == (by_name("pps"), 3600.0)
    assert training.sketch == found.running().recording.sketch == 16
    written = loads(f"{BASE}{NETWORK}[deep.select]\nrule = 'pps'\nfloor = 0.1\n")
    assert written.deep().policy.rule == by_name("pps", floor=0.1)


def test_columns_of_slices_and_leverage_are_named_where_a_rule_goes_by_them() -> None:
    rule = '{ rule = "pps", order = "slice", leverage = true }'
    text = f'{BASE}{NETWORK}[deep]\nslices = "member"\nleverage = ["device"]\n'
    for field in ("select", "shadow"):
        training = loads(f"{text}{field} = {rule}").deep()
        assert (training.slices, training.leverage) == ("member", ("device",))
    assert (loads(BASE + NETWORK).deep().slices, loads(BASE + NETWORK).deep().leverage) == (None, ())
    trimmed = f'[model]\nlink = "identity"\n{BASE}{NETWORK}[deep]\ntrim = "mad"\nslices = "device"'
    assert loads(trimmed).deep().slices == "device"


def test_a_table_tells_the_kinds_of_columns_whose_leverage_counts() -> None:
    """Before a network is trained on it: `nearline check` and `nearline fit` ask."""
    found = loads(BASE + NETWORK + PRICED)
    assert found.deep().leverage == ("price",)
    assert found.deep(pa.table({"device": ["a"], "price": ["low"]})).leverage == ("price",)
    with pytest.raises(ConfigError, match=r"^nearline\.toml: \[deep\] leverage: 'price' is numeric: .* leave it out"):
        found.deep(pa.table({"device": ["a"], "price": [1.5]}))
    declared = '[schema.columns]\nprice = { kind = "categorical" }\n'
    assert loads(BASE + NETWORK + declared + PRICED).deep(pa.table({"price": [1]})).leverage == ("price",)


@pytest.mark.parametrize("command", ["check", "fit"])
def test_a_number_by_whose_leverage_is_drawn_is_refused_before_anything_is_trained(
    tmp_path: Path, command: str
) -> None:
    rows = {"price": [1.5, 2.5], "device": ["a", "b"], "member": [1, 2], "clicked": [0, 1]}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    file = tmp_path / "nearline.toml"
    file.write_text(f'[data]\npath = "rows.parquet"\n{BASE}{NETWORK}{PRICED}[live]\nfolder = "state"\n')
    with pytest.raises(ConfigError, match=r"\[deep\] leverage: 'price' is numeric"):
        CliRunner().invoke(app, [command, str(file)], catch_exceptions=False)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("", 0), ('[deep]\nselect = { rule = "pps", sampler = "cube", balance = ["loss"] }', 0),
        ("[deep]\nsketch = 8", 8), ('[deep]\nshadow = { rule = "cube", balance = ["sketch"] }', 16),
        ('[deep]\nsketch = 32\nselect = { rule = "cube", balance = ["sketch"] }', 32),
    ],
)  # fmt: skip
def test_sketches_are_recorded_when_a_rule_needs_them_or_when_they_are_asked_for(text: str, length: int) -> None:
    found = loads(BASE + NETWORK + text)
    assert found.deep().sketch == found.running().recording.sketch == length


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
