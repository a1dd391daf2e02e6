"""Blocks are written by Arrow until the compiled writer was tried on some; the rows are the same."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.store.blocks import MADE, ROW, SCHEMA, block

from nearline.store import Log, Recorder
from nearline.store._packed import Packed
from nearline.store._packing import Packing


def parts(n: int = 2) -> list[tuple[int, Any]]:
    return [(n, block([ROW] * n) | {"time": np.arange(float(n)), "version": "1.0.0"})]


def test_it_packs_once_it_was_tried() -> None:
    packing = Packing(SCHEMA, MADE)
    assert packing.pack(0, [(1, {"x": np.ones(1)})]) is None
    assert packing.trial is None  # there is nothing to try
    assert packing.pack(0, parts()) is None
    assert packing.trial is not None
    packing.trial.join()
    packed = packing.pack(0, parts())
    assert packed is not None
    assert packed.batch["user"].to_pylist() == ["ann", "ann"]


def test_rows_are_the_same_before_and_after(tmp_path: Path) -> None:
    with Log.open(tmp_path, SCHEMA) as log:
        with Recorder(log, made=MADE) as recorder:
            for turn in range(6):
                durable = threading.Event()
                recorder.submit(*parts()[0], done=lambda error, durable=durable: durable.set())  # type: ignore[misc]
                assert durable.wait(30)
                if turn == 2 and (trial := recorder._packing.trial):
                    trial.join()
        assert (
            log.read(0).drop_columns(["id"]).to_pylist()[::2] == [log.read(0).drop_columns(["id"]).to_pylist()[0]] * 6
        )
        assert log.read(0)["id"].to_pylist() == MADE["id"].ids(0, 12)


def test_without_compiled_code_rows_are_written_by_arrow(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(*_: Any) -> Any:
        raise OSError("no such symbol: pwrite")

    monkeypatch.setattr(Packed, "store", refuses)
    packing = Packing(SCHEMA, MADE)
    with caplog.at_level(logging.WARNING, "nearline"):
        assert packing.pack(0, parts()) is None
        assert packing.trial is not None
        packing.trial.join()
    assert "no such symbol: pwrite" in caplog.text
    assert packing.pack(0, parts()) is None
