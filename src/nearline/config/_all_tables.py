"""All of `nearline.toml`: the model and its data, the backtest, and the running system."""

from __future__ import annotations

from nearline.config._deep_tables import DeepTable
from nearline.config._gate_table import GateTable
from nearline.config._live_tables import (
    ChangeTable,
    FitTable,
    GuardTable,
    JoinTable,
    LedgerTable,
    LiveTable,
    SafetyTable,
    ServeTable,
    TuneTable,
)
from nearline.config._recalibrate_table import RecalibrateTable
from nearline.config._tables import (
    BacktestTable,
    DataTable,
    FixedTable,
    LoadingsTable,
    ModelTable,
    RandomTable,
    SchemaTable,
    Table,
)
from nearline.config._training_tables import RefitTable, TrainingTable


class Tables(Table, frozen=True, kw_only=True):
    """All of `nearline.toml`."""

    data: DataTable = DataTable()
    schema: SchemaTable
    model: ModelTable = ModelTable()
    fixed: FixedTable = FixedTable()
    random: tuple[RandomTable, ...] = ()
    loadings: tuple[LoadingsTable, ...] = ()
    backtest: BacktestTable = BacktestTable()
    fit: FitTable = FitTable()
    tune: TuneTable = TuneTable()
    live: LiveTable = LiveTable()
    join: JoinTable = JoinTable()
    ledger: LedgerTable = LedgerTable()
    safety: SafetyTable = SafetyTable()
    guard: GuardTable = GuardTable()
    change: ChangeTable = ChangeTable()
    gate: GateTable = GateTable()
    recalibrate: RecalibrateTable = RecalibrateTable()
    training: TrainingTable = TrainingTable()
    refit: RefitTable = RefitTable()
    deep: DeepTable = DeepTable()
    serve: ServeTable = ServeTable()
