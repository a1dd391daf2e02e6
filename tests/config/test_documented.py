"""docs/configuration.md is complete, and every example is accepted."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from tests.config.parts import ROOT, SCHEMA

from nearline import config
from nearline._errors import ConfigError
from nearline.config import _live_tables, _tables, _training_tables
from nearline.config._all_tables import Tables
from nearline.config._deep_tables import DeepTable
from nearline.config._gate_table import GateTable
from nearline.config._recalibrate_table import RecalibrateTable

STRUCTS: dict[str, list[type[msgspec.Struct]]] = {
    "[data]": [_tables.DataTable],
    "[data.marketplace]": [_tables.MarketplaceTable],
    "[schema]": [_tables.SchemaTable],
    "[schema.columns.NAME]": [
        _tables.NumericTable, _tables.CategoricalTable, _tables.MultiTable, _tables.VectorTable, _tables.HashedTable,
    ],
    "[model]": [_tables.ModelTable],
    "[fixed]": [_tables.FixedTable],
    "[[random]]": [_tables.RandomTable],
    "[[loadings]]": [_tables.LoadingsTable],
    "[fixed.network]": [_tables.NetworkTable],
    "[fixed.fit]": [_tables.FixedFitTable],
    "[random.fit]": [_tables.RandomFitTable],
    "[fixed.prior]": [_tables.PriorTable],
    "[fixed.forgetting]": [_tables.ForgettingTable],
    "[backtest]": [_tables.BacktestTable],
    "[backtest.priors]": [_tables.PriorsTable],
    "[[backtest.variants]]": [_tables.VariantTable],
    "[fit.priors.adjust.NAME]": [_tables.AdjustTable],
    "[tune]": [_live_tables.TuneTable],
    "[fit]": [_live_tables.FitTable],
    "[live]": [_live_tables.LiveTable],
    "[join]": [_live_tables.JoinTable],
    "[ledger]": [_live_tables.LedgerTable],
    "[safety]": [_live_tables.SafetyTable],
    "[guard]": [_live_tables.GuardTable],
    "[change]": [_live_tables.ChangeTable],
    "[gate]": [GateTable],
    "[recalibrate]": [RecalibrateTable],
    "[training]": [_training_tables.TrainingTable],
    "[refit]": [_training_tables.RefitTable],
    "[deep]": [DeepTable],
    "[serve]": [_live_tables.ServeTable],
}  # fmt: skip


def documented() -> dict[str, dict[str, tuple[str, str]]]:
    """(default, value) of every field of every table, as docs/configuration.md has them."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for line in (ROOT / "docs/configuration.md").read_text("utf-8").splitlines():
        if heading := re.match(r"### `([^`]+)`", line):
            fields = found.setdefault(heading[1], {})
        elif row := re.match(r"\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", line):
            fields[row[1]] = (row[2].strip(), row[3])
    return found


def in_toml(field: msgspec.structs.FieldInfo) -> str:
    """A default as the document writes it."""
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, msgspec.Struct):
        return "see below"
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return f"`{[list(item) for item in value]}`"
    return "none" if value is None else f"`{msgspec.json.encode(value).decode()}`"


def test_every_table_is_documented_and_every_documented_one_exists() -> None:
    assert set(documented()) == set(STRUCTS)
    used = {struct for structs in STRUCTS.values() for struct in structs}
    assert used == set(_tables.Table.__subclasses__()) - {Tables}


@pytest.mark.parametrize("table", STRUCTS)
def test_every_field_is_documented_with_its_default(table: str) -> None:
    structs = STRUCTS[table]
    fields = {field.encode_name: in_toml(field) for struct in structs for field in msgspec.structs.fields(struct)}
    if structs[0].__struct_config__.tag_field:
        fields[structs[0].__struct_config__.tag_field] = "required"
    assert {name: default for name, (default, _) in documented()[table].items()} == fields


@pytest.mark.parametrize("table", STRUCTS)
def test_every_choice_is_documented(table: str) -> None:
    rows = documented()[table]
    for struct in STRUCTS[table]:
        for field in msgspec.inspect.type_info(struct).fields:
            choices = getattr(field.type, "values", ()) or [
                value for part in getattr(field.type, "types", ()) for value in getattr(part, "values", ())
            ]
            assert not choices or set(re.findall(r'"([^"]+)"', rows[field.encode_name][1])) == set(choices)
        tag = struct.__struct_config__.tag
        assert tag is None or f'"{tag}"' in rows["kind"][1]


def test_the_documents_own_example_is_accepted() -> None:
    text = (ROOT / "docs/configuration.md").read_text("utf-8")
    for example in re.findall(r"```toml\n(.*?)```", text, re.DOTALL):
        config.loads(example)
    error = re.search(r"```\nerror: (nearline.toml: .*)\n```", text)
    assert error is not None
    with pytest.raises(ConfigError, match=re.escape(error[1])):
        config.loads(f"{SCHEMA}[model]\nlnk = 'logit'")


EXAMPLES = sorted((ROOT / "examples").glob("*.toml")) + sorted((ROOT / "src/nearline/cli").glob("*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_accepted(path: Path) -> None:
    setup = config.load(path)
    assert setup.variants() or path.name == "live.toml"
    assert setup.model().blocks


def test_there_are_examples() -> None:
    assert {path.name for path in EXAMPLES} >= {"events.toml", "elec2.toml", "movielens.toml", "marketplace.toml"}
