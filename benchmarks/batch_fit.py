"""The batch layer against the same objective fitted with scipy and scikit-learn, one thread each, in processor time.

1. MovieLens-1M, ratings of 3 dropped: fixed, user and movie effects with covariances. The rival is block coordinate
   descent with one scipy solve per entity (`_rivals/_entity_scipy.py`), warm-started, until a cycle changes the
   objective by less than 1e-6 of it or `--cycles` are done; it is timed on a random sample (`--sample` entities of each
   effect) and scaled to all. What gathering an entity's rows and recomputing offsets takes is not counted against it.
   nearline runs the fewest cycles that end at the rival's objective or below.
2. A fixed effect over `--rows` rows and about a million hashed features, some 32 a row, against scikit-learn's
   LogisticRegression(solver="lbfgs") on the same sparse matrix: nearline's time to an objective of at most
   scikit-learn's (1 + 1e-6).
3. statsmodels' mixed logistic regression on the first rows of MovieLens, where it finishes within `--limit` seconds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa
from rich.table import Table
from sklearn.linear_model import LogisticRegression

import nearline as nl
from benchmarks import _movielens, _report
from benchmarks._rivals import _entity_scipy, _mixed_logit
from benchmarks._rivals._sampled_descent import SampledDescent
from nearline.features import Design
from nearline.glmix import Convergence

T = TypeVar("T")

TOKENS, BITS, LENGTH = 4_000_000, 20, 32
# Coarse to fine: the first whose objective is that of scikit-learn counts.
TOLERANCES = (1e3, 1e2, 1e1, 1.0, 1e-1, 1e-2, 1e-4)
MIXED_ROWS = (300, 1_000, 3_000)


def main() -> None:
    args = _report.arguments(__doc__, sample=150, cycles=20, rows=1_000_000, limit=60.0, times=3)
    if args.quick:
        args.sample, args.cycles, args.rows, args.limit, args.times = 30, 5, 50_000, 10.0, 1
    bars, tables = movielens(args.sample, args.cycles, args.times, 60_000 if args.quick else None)
    more, sparse_table = sparse(args.rows, args.times)
    _report.finish([*bars, *more], args.json, [*tables, sparse_table, mixed(args.limit)])


def clock(work: Callable[[], T]) -> tuple[float, T]:
    """Processor seconds that `work()` took, and what it returned."""
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


# -- many entities -----------------------------------------------------------------------------------------------------


def glmix() -> nl.GLMix:
    """The benchmarks' model without its loadings, for which separate solves have no counterpart."""
    full = _movielens.model()
    return nl.GLMix(full.schema, full.fixed, [effect for effect in full.random if isinstance(effect, nl.Random)])


def movielens(sample: int, cycles: int, times: int, rows: int | None) -> tuple[list[_report.Bar], list[Table]]:
    model = glmix()
    design, _ = model.design(_movielens.events().slice(0, rows), learn=True)
    model.fit(design.take(0, 2_000), cycles=3)  # compiles
    rival = SampledDescent(model, design, sample)
    rival.run(cycles, tolerance=1e-6)
    needed = next(n for n in range(1, 2 * cycles) if own(model, design, n)[1].objective[-1] <= rival.objective[-1])
    ours = [own(model, design, needed) for _ in range(times)]
    seconds, report = [taken for taken, _ in ours], ours[-1][1]
    same = [own(model, design, len(rival.objective))[0] for _ in range(times)]
    ratio = _report.Spread.of([theirs / mine for theirs in rival.seconds for mine in seconds])
    fits = [
        (f"nearline, {needed} cycles", *spread(seconds), report.objective[-1]),
        (
            f"nearline, {len(rival.objective)} cycles",
            *spread(same),
            own(model, design, len(rival.objective))[1].objective[-1],
        ),
        (f"scipy L-BFGS-B, {len(rival.objective)} cycles", *spread(rival.seconds.tolist()), rival.objective[-1]),
    ]
    solves = [(f"{b.cycle} {b.effect}", b.objective, b.gradient_norm, b.iterations, b.seconds) for b in report.blocks]
    print(f"MovieLens: {ratio} times as fast; scipy's solves are within {rival.apart:.1e} of exact ones")
    above = max(0.0, report.objective[-1] / rival.objective[-1] - 1.0)
    return [
        _report.Bar("speedup_vs_scipy", ratio.median, 20.0, "x"),
        _report.Bar("objective_above_scipy", above, 1e-6, "relative", "<="),
    ], [
        _report.table(f"MovieLens, {design.rows:,} rows", ("fit", "processor s", "spread", "objective"), fits),
        _report.table("nearline, solve by solve", ("cycle", "objective", "gradient", "steps", "seconds"), solves),
    ]  # fmt: skip


def own(model: nl.GLMix, design: Design, cycles: int) -> tuple[float, Convergence]:
    """Processor seconds of a cold fit, and its report."""
    return clock(lambda: model.fit(design, cycles=cycles, tolerance=0.0, clock=time.process_time))


def spread(seconds: list[float]) -> tuple[float, str]:
    found = _report.Spread.of(seconds)
    return found.median, str(found)


# -- one large sparse effect -------------------------------------------------------------------------------------------


def hashed(rows: int) -> tuple[nl.GLMix, Design]:
    """Rows of some 30 tokens whose popularity falls as rank^(−3/4), hashed to 2^20 features, and their labels."""
    rng = np.random.default_rng(0)
    tokens = (TOKENS * rng.random((rows, LENGTH)) ** 4).astype(np.int64)
    effect = 0.6 * rng.standard_normal(TOKENS)
    logit = effect[tokens].sum(axis=1) / 2.0 - 1.5
    label = (rng.random(rows) < 1.0 / (1.0 + np.exp(-logit))).astype(np.int8)
    ends = pa.array(np.arange(rows + 1, dtype=np.int32) * LENGTH)
    table = pa.table({"tokens": pa.ListArray.from_arrays(ends, pa.array(tokens.ravel())), "label": label})
    schema = nl.Schema(label="label", columns={"tokens": nl.Hashed(BITS)})
    model = nl.GLMix(schema, nl.Fixed("tokens", prior=nl.Prior(1.0), free_intercept=True))
    return model, model.design(table, learn=True)[0]


def sparse(rows: int, times: int) -> tuple[list[_report.Bar], Table]:
    model, design = hashed(rows)
    X = _entity_scipy.csr_matrix((design.values, design.indices, design.indptr), (rows, model.encoder.n_slots))
    rival = LogisticRegression(C=1.0, solver="lbfgs", max_iter=2_000)
    seconds, _ = clock(lambda: rival.fit(X[:, 1:], design.label))
    target = objective(design, X, np.r_[rival.intercept_, rival.coef_[0]])
    small = design.take(0, 100)
    fitted(model, small, 1.0)  # compiles
    tried = []
    for tolerance in TOLERANCES:
        own, b = fitted(model, design, tolerance)
        tried.append((f"nearline, decrement <= {tolerance:g}", own, objective(design, X, b)))
        if tried[-1][2] <= target * (1.0 + 1e-6):
            break
    ours = [own] + [fitted(model, design, tolerance)[0] for _ in range(times - 1)]
    ratio = _report.Spread.of([own / seconds for own in ours])
    print(f"sparse: {ratio} of scikit-learn's time, objective {tried[-1][2] / target - 1.0:+.1e} relative to its")
    shape = f"{rows:,} rows x {X.shape[1]:,} features, {X.nnz:,} entries"
    table = _report.table(
        shape, ("fit", "processor s", "objective"),
        [(f"scikit-learn lbfgs, {int(rival.n_iter_[0])} iterations", seconds, target), *tried],
    )  # fmt: skip
    return [_report.Bar("sparse_time_vs_sklearn", ratio.median, 3.0, "x", "<=")], table


def fitted(model: nl.GLMix, design: Design, tolerance: float) -> tuple[float, np.ndarray]:
    """Processor seconds of a fit with variances, and its coefficients."""
    fixed = nl.Fixed("tokens", prior=nl.Prior(1.0), free_intercept=True, fit=nl.FixedFit(tolerance=tolerance))
    model.block("fixed").effect = fixed
    seconds, _ = clock(lambda: model.fit(design, cycles=1))
    return seconds, model.block("fixed").mean[0].astype(np.float64)


def objective(design: Design, X: _entity_scipy.csr_matrix, b: np.ndarray) -> float:
    """Σ ℓ + ½ ‖b‖², the intercept free."""
    eta = X @ b
    return float(np.logaddexp(0.0, eta).sum() - design.label @ eta + 0.5 * (b[1:] @ b[1:]))


# -- mixed logistic regression -----------------------------------------------------------------------------------------


def mixed(limit: float) -> Table:
    """Fixed effect with user and movie intercepts: nearline's fit and statsmodels' MAP on the first rows."""
    rows = []
    for size in MIXED_ROWS:
        full = _movielens.model()
        effects = [nl.Random("user_id"), nl.Random("movie_id")]
        model = nl.GLMix(full.schema, nl.Fixed("gender", "age", "genres"), effects)
        design, _ = model.design(_movielens.events().slice(0, size), learn=True)
        model.fit(design, cycles=1)
        ours, _ = clock(lambda model=model, design=design: model.fit(design))  # type: ignore[misc]
        X = _entity_scipy.csr_matrix((design.values, design.indices, design.indptr)).toarray()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.npz"
            np.savez(file, X=X, y=design.label, u=design.entities["user_id"], m=design.entities["movie_id"])
            theirs = _mixed_logit.seconds(file, limit)
        rows.append((f"{size:,}", ours, theirs if np.isfinite(theirs) else f"not within {limit:g} s"))
        if not np.isfinite(theirs):
            break
    return _report.table("User and movie intercepts", ("rows", "nearline s", "statsmodels MAP s"), rows)


if __name__ == "__main__":
    main()
