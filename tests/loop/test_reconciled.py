"""Whatever happens before and after a cut-off: a fit that comes late ends as one that came at once, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.loop.parts import Bench, rows, same_model, trained
from tests.loop.recovery_parts import DOINGS, PLAIN, Doing, bench_of, live

from nearline import GLMix
from nearline.store import Version


def fit_of(mode: str) -> GLMix:
    """Another model than the benches begin with, as a fit would make."""
    model = trained(mode=mode)
    rng = np.random.default_rng(9)
    given = rows(rng.integers(5, 20, 40).tolist(), 9)
    model.partial_fit({**given, "clicked": rng.integers(0, 2, 40), "when": np.arange(40.0)})
    return model


FITS = {mode: fit_of(mode) for mode in ("event", "minibatch")}


def go_over(bench: Bench, fit: GLMix, cutoff: int, version: Version, *, crash: bool = False) -> None:
    """Catch up in single steps and swap; with `crash` the process dies half way, once."""
    bench.models[version] = fit
    for last in (False, True) if crash else (True,):
        caught = bench.learner.catch_up(version, cutoff, [(0, cutoff)])
        steps = 0
        while (last or steps < 2) and caught.step():
            steps += 1
        if last:
            bench.learner.succeed(caught, 7, bench.now)
        else:
            bench.crash()


@pytest.mark.parametrize("mode", ["event", "minibatch"])
@PLAIN
@given(before=DOINGS, between=DOINGS, after=DOINGS, batch=st.sampled_from([2, 5_000]), crash=st.booleans())
def test_late_is_early(
    mode: str, before: list[Doing], between: list[Doing], after: list[Doing], batch: int, crash: bool
) -> None:
    """Corrections and retractions before, after and across the cut-off; crashes; windows that close (glmix.md 7)."""
    late, early = bench_of(mode, batch), bench_of(mode, batch)
    for bench in (late, early):
        live(bench, before, faults=False)
    cutoff = early.storage.examples.end
    go_over(early, FITS[mode], cutoff, Version(2))
    for bench in (late, early):
        live(bench, between, faults=False)
    go_over(late, FITS[mode], cutoff, Version(2), crash=crash)
    for bench in (late, early):
        live(bench, after, faults=crash)
    assert same_model(late.model, early.model)
    assert late.held() == early.held()
    late.crash()
    assert same_model(late.model, early.model)


@PLAIN
@given(before=DOINGS, between=DOINGS, after=DOINGS)
def test_a_second_late_fit_passes_over_what_the_first_learned_anew(
    before: list[Doing], between: list[Doing], after: list[Doing]
) -> None:
    twice, once = bench_of("event"), bench_of("event")
    for bench in (twice, once):
        live(bench, before, faults=False)
    cutoff = once.storage.examples.end
    for bench in (twice, once):
        live(bench, between, faults=False)
    go_over(twice, FITS["event"], 0, Version(2))
    for bench in (twice, once):
        live(bench, after, faults=False)
        go_over(bench, trained(), cutoff, Version(3))
    assert same_model(twice.model, once.model)
    assert twice.held() == once.held()
