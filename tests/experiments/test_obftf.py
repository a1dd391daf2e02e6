"""The OBFTF experiments: records of the right age, the costs that are counted, and the order of the rules on T3."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the experiments train networks: pip install 'nearline[deep]'")

from experiments._click_streams import Stream, drifting

from experiments import _windowed
from nearline import select

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def stream() -> Stream:
    return drifting(0, quick=True)


@pytest.mark.parametrize("lag", [0, 1, 7, 100])
def test_records_are_as_old_as_they_claim(stream: Stream, lag: int) -> None:
    network, design = _windowed.start(stream, 0)
    records = _windowed.Recorder(network, design, stream.window, lag, 0)
    past = []
    for window, (first, last) in enumerate(records.windows[:12]):
        past.append(network.fork())
        record = records.take(window)
        then = past[max(window - lag, 0)].information(design.take(first, last))
        assert np.array_equal(record.logit, then.logit)
        network.partial_fit(design.take(first, last))


def test_a_tenth_of_the_rows_goes_backward_and_none_forward_beside_it(stream: Stream) -> None:
    run = _windowed.run(stream, select.by_name("pps"), seed=0, lag=0)
    windows = stream.table.num_rows // stream.window
    assert run.backwards == windows * stream.window // 10


def test_the_weighted_design_is_nearer_to_the_full_batch_than_uniform_draws() -> None:
    def excess(rule: select.Rule | None) -> float:
        runs = [_windowed.run(drifting(seed, quick=True), rule, seed=seed, lag=0) for seed in range(3)]
        return float(np.mean([run.raw.loss - run.floor for run in runs]))

    full, pps, uniform = (excess(rule) for rule in (None, select.by_name("pps"), select.by_name("uniform")))
    assert full < pps < uniform


def test_what_is_served_is_mapped_by_earlier_windows_only(stream: Stream) -> None:
    rng, n = np.random.default_rng(0), stream.window
    truth = rng.normal(-1.0, 1.0, 20 * n)
    label = (rng.random(20 * n) < 1 / (1 + np.exp(-truth))).astype(np.float64)
    answered = _windowed.recalibrated(stream, label, 2 * truth)
    other = np.where(np.arange(20 * n) < 15 * n, label, 1 - label)
    assert np.array_equal(_windowed.recalibrated(stream, other, 2 * truth)[: 16 * n], answered[: 16 * n])
    late = slice(10 * n, None)
    assert _windowed.scored(label[late], answered[late]).loss < _windowed.scored(label[late], 2 * truth[late]).loss
    assert abs(_windowed.scored(label[late], answered[late]).calibration - 1) < 0.03


def test_the_regression_ends_with_its_bar() -> None:
    command = [sys.executable, str(ROOT / "experiments/obftf.py"), "regression", "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (bar,) = json.loads(done.stdout.splitlines()[-1])["bars"]
    assert bar["name"] == "trimmed_mse"
    assert 0.08 < bar["value"] < 0.3
