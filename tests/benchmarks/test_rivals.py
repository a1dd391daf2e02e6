"""The rivals' side of the benchmarks: same events for all, progressive predictions, posteriors that agree."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks._rivals import _design, _entities, _events
from benchmarks._rivals._scores import Scores, sigmoid

from benchmarks import _report

ROOT = Path(_report.__file__).resolve().parents[1]


def made_up(rows: int = 400, seed: int = 0) -> _events.Events:
    """A small stream with MovieLens' columns: 20 users, 15 movies, likes that depend on both."""
    rng = np.random.default_rng(seed)
    user, movie = rng.integers(1, 21, rows), rng.integers(1, 16, rows)
    genre = [["Comedy"], ["Drama", "War"], ["Action"]]
    margin = rng.normal(size=21)[user] + rng.normal(size=16)[movie]
    return _events.from_table(
        pa.table(
            {
                "user_id": pa.array(user, pa.int32()),
                "movie_id": pa.array(movie, pa.int32()),
                "gender": np.where(user % 2, "F", "M"),
                "age": pa.array(18 + user % 3, pa.int8()),
                "occupation": pa.array(user % 5, pa.int8()),
                "genres": [genre[m % 3] for m in movie],
                "year": pa.array(1980 + movie, pa.int16()),
                "timestamp": np.arange(rows),
                "liked": pa.array(rng.random(rows) < sigmoid(margin), pa.int8()),
            }
        )
    )


def dense(space: _events.Space) -> np.ndarray[Any, Any]:
    out = np.zeros((len(space.indptr) - 1, space.size))
    for row, (columns, values) in zip(out, space.rows()):
        row[columns] += values
    return out


def test_a_row_of_the_features_holds_what_the_table_says() -> None:
    events = made_up()
    b = dense(events.spaces["b"])
    genres = {name: j for j, name in enumerate(["Action", "Comedy", "Drama", "War"])}
    for i in range(20):
        m = int(events.movie[i])
        names = [["Comedy"], ["Drama", "War"], ["Action"]][m % 3]
        assert set(np.flatnonzero(b[i, :4])) == {genres[name] for name in names}
        assert b[i, 4] == pytest.approx(m / 20)
    assert (dense(events.spaces["a"]).sum(axis=1) == 3).all()


def test_crossing_is_the_row_by_row_outer_product() -> None:
    events = made_up()
    u, b = dense(events.spaces["u"]), dense(events.spaces["b"])
    crossed = dense(_design.cross(events.spaces["u"], events.spaces["b"]))
    np.testing.assert_array_equal(crossed, np.einsum("ij,ik->ijk", u, b).reshape(len(events), -1))


def test_the_head_of_the_stream_is_a_prefix_of_it() -> None:
    events = made_up()
    tenth = events.tenth()
    assert len(tenth) == 40
    np.testing.assert_array_equal(dense(tenth.spaces["b"]), dense(events.spaces["b"])[:40])
    assert tenth.digest != events.digest == made_up().digest


def test_scores_against_numbers_worked_by_hand() -> None:
    scores = Scores(np.array([0.8, 0.4, 0.5]), seconds=0.5)
    assert scores.log_loss(np.array([1.0, 0.0, 1.0])) == pytest.approx(-np.log([0.8, 0.6, 0.5]).mean())
    assert scores.rate == 6


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from benchmarks._rivals import _grid, _vw

    monkeypatch.setattr(_vw, "OUT", tmp_path)
    monkeypatch.setattr(_grid, "OUT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("interactions", ["-q ub -q ma", "-q ub -q ma --lrq um2"])
def test_vw_is_progressive_and_reads_its_cache(out: Path, interactions: str) -> None:
    pytest.importorskip("vowpalwabbit")
    from benchmarks._rivals import _vw

    events = made_up()
    settings = _vw.Settings("ftrl", (("ftrl_alpha", 0.3), ("ftrl_beta", 0.5)), interactions, bits=18)
    scores = _vw.progressive(settings, events)
    assert scores.probability[0] == 0.5
    assert scores.log_loss(events.liked) < 0.7
    shorter = _vw.progressive(settings, events.head(200))
    np.testing.assert_array_equal(shorter.probability, scores.probability[:200])
    binary = _vw.cache(events, "umab")
    assert _vw.loss(settings, binary, len(events)) == pytest.approx(scores.reported, abs=1e-9)
    if not settings.low_rank:
        written = Scores(scores.probability, 1.0).log_loss(events.liked)
        assert scores.reported == pytest.approx(written, abs=2e-6)
    with pytest.raises(RuntimeError, match="VW saw 400 of 401"):
        _vw.loss(settings, binary, len(events) + 1)


def test_vw_given_no_cache_sees_nothing(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vowpalwabbit")
    from benchmarks._rivals import _vw

    monkeypatch.setattr(_vw, "_source", lambda binary: "-d /dev/null")
    with pytest.raises(RuntimeError, match="VW saw 0 of 400"):
        _vw.loss(_vw.Settings("sgd", (), bits=18), out, 400)


def test_vw_ignoring_a_space_equals_a_file_without_it(out: Path) -> None:
    pytest.importorskip("vowpalwabbit")
    from benchmarks._rivals import _vw

    events = made_up()
    settings = _vw.Settings("adaptive", (("learning_rate", 0.2),), bits=18)
    without = _vw.loss(settings, _vw.cache(events, "umab"), len(events))
    assert _vw.loss(settings, _vw.cache(events, "umabd"), len(events), "d") == pytest.approx(without, abs=1e-7)


def test_vw_search_polishes_downhill_and_is_kept(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vowpalwabbit")
    from benchmarks._rivals import _vw_search

    monkeypatch.setattr(_vw_search, "COARSE", {"sgd": {"learning_rate": [0.01, 0.1], "power_t": [0.0]}})
    monkeypatch.setattr(_vw_search, "INTERACTIONS", ["-q ub", "-q ub --lrq um2"])
    monkeypatch.setattr(_vw_search, "BITS", [18])
    monkeypatch.setattr(_vw_search, "EXTRA", {False: {"l2": [0.0, 1e-6]}})
    found = _vw_search.search(made_up())
    coarse = [t.loss for t in found.trials if t.settings.interactions == _vw_search.BOTH and t.settings.bits == 22][-1]
    assert found.best.loss <= min(t.loss for t in found.shortlist) < coarse
    assert not found.linear.settings.low_rank
    told: list[int] = []
    assert _vw_search.search(made_up(), told=lambda n, best: told.append(n)) == found
    assert not told


def test_rivals_see_no_label_before_they_predict_it(out: Path) -> None:
    for package in ("river", "sklearn", "vowpalwabbit"):
        pytest.importorskip(package)
    from benchmarks._rivals import _river, _sklearn, _vw

    events, low_rank = made_up(), "-q ub -q ma --lrq um2"
    labels = np.r_[events.liked[:300], 1 - events.liked[300:]]
    flipped = _events.Events(events.user, events.movie, events.time, labels, events.spaces)
    ftrl = (("ftrl_alpha", 0.3), ("ftrl_beta", 0.5))
    runs: list[tuple[Callable[[_events.Events], Scores], int]] = [
        (lambda e: _vw.progressive(_vw.Settings("ftrl", ftrl, bits=18), e), 1),
        (lambda e: _vw.progressive(_vw.Settings("ftrl", ftrl, low_rank, bits=18), e), 1),
        (lambda e: _river.progressive({"optimizer": "AdaGrad", "lr": 0.2}, e), 1),
        (lambda e: _sklearn.progressive({"learning_rate": "constant", "eta0": 0.1}, e, 50), 50),
    ]
    for run, batch in runs:
        one, other = run(events).probability, run(flipped).probability
        assert np.flatnonzero(one != other)[0] == 300 + batch
        assert Scores(one, 1.0).log_loss(events.liked) < 0.7


def laplace(task: _entities.Task) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Mode and Hessian by plain Newton steps: θ solves Xᵀ(p − y) + θ = 0, H = I + Xᵀ diag(p(1 − p)) X."""
    modes, hessians = [], []
    for x, y in zip(task.x, task.label):
        theta = np.zeros(x.shape[1])
        for _ in range(50):
            p = sigmoid(x @ theta)
            H = np.eye(len(theta)) + (x * (p * (1 - p))[:, None]).T @ x
            theta = theta - np.linalg.solve(H, x.T @ (p - y) + theta)
        modes.append(theta)
        hessians.append(H)
    return np.stack(modes), np.stack(hessians)


@pytest.mark.parametrize(("rows", "features"), [(20, 12), (2, 31)])
@pytest.mark.parametrize("rival", ["_lambda_learner", "_bayesianbandits"])
def test_rival_posteriors_are_the_laplace_approximation(rival: str, rows: int, features: int) -> None:
    pytest.importorskip("linkedin.learner.prediction" if rival == "_lambda_learner" else "bayesianbandits")
    module = __import__(f"benchmarks._rivals.{rival}", fromlist=["fit"])
    task = _entities.task(20, rows, features, seed=1)
    fitted = module.fit(task)
    theta, hessian = laplace(task)
    np.testing.assert_allclose(fitted.theta, theta, atol=2e-4)
    np.testing.assert_allclose(fitted.hessian, hessian, atol=2e-3)
    assert fitted.documented_per_s > 0
    assert fitted.rows_per_s == pytest.approx(rows * fitted.entity_updates_per_s)
    assert fitted.entity_updates_per_s < fitted.update_only_per_s


def test_bars_compare_in_their_own_direction() -> None:
    assert _report.Bar("x", 2.0, 1.5).passed
    assert not _report.Bar("x", 2.0, 1.5, "x", "<=").passed
    record = _report.Bar("x", float("nan"), 1.5, "x").record()
    assert record == {"name": "x", "value": None, "target": 1.5, "unit": "x", "pass": False}


def test_ratios_are_measured_in_turn() -> None:
    called: list[str] = []

    def side(name: str, value: float) -> float:
        called.append(name)
        return value

    ratio = _report.alternate(lambda: side("ours", 6.0), lambda: side("rival", 2.0), times=3)
    assert called == ["ours", "rival"] * 3
    assert ratio.ratio == _report.Spread(3.0, 3.0, 3.0, 3)


def test_a_script_ends_with_one_json_line_and_runs_with_pinned_threads(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nimport os\nfrom benchmarks import _report\n"
        "args = _report.arguments('test', numba_threads=2, rivals=True, size=3)\n"
        "threads = os.environ['OMP_NUM_THREADS'] + os.environ['NUMBA_NUM_THREADS']\n"
        "bars = [_report.Bar('threads', float(threads), 12), _report.Bar('size', args.size, args.rivals, 'u', '<=')]\n"
        "_report.finish(bars, args.json, [_report.table('t', ('a', 'b'), [('x', 1.0)])])\n"
    )
    ran = subprocess.run(
        [sys.executable, str(script), "--json", "--no-rivals", "--size", "4"],
        capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    bars = json.loads(ran.stdout.splitlines()[-1])["bars"]
    assert bars[0] == {"name": "threads", "value": 12.0, "target": 12.0, "unit": "", "pass": True}
    assert bars[1] == {"name": "size", "value": 4.0, "target": 0.0, "unit": "u", "pass": False}
