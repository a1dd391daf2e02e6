"""Things to do to a learner, faults included, and a bench that does them."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from tests.loop.parts import Bench, rows, trained

from nearline import StateError
from nearline.gate import GuardSettings
from nearline.join import Policy

POLICY = Policy(window=20.0, lateness=5.0, horizon=200.0)
PLAIN = settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.too_slow])

Doing = tuple[Any, ...]
TICKS = st.tuples(st.just("tick"), st.sampled_from([1.0, 3.0, 30.0]), st.sampled_from(["", "crash", "fail", "both"]))
DOINGS = st.lists(
    st.one_of(
        st.tuples(st.just("predict"), st.lists(st.integers(0, 14), min_size=1, max_size=4), st.integers(0, 9)),
        st.tuples(st.just("happened"), st.integers(0, 30), st.sampled_from([0.0, 1.0]), st.just("outcome")),
        st.tuples(st.just("happened"), st.integers(0, 30), st.sampled_from([0.0, 1.0]), st.just("correct")),
        st.tuples(st.just("happened"), st.integers(0, 30), st.none(), st.just("retract")),
        st.tuples(st.just("void")),
        TICKS,
    ),
    min_size=5, max_size=25,
)  # fmt: skip
BASES = {"event": trained(), "minibatch": trained(mode="minibatch")}


def live(bench: Bench, doings: list[Doing], *, faults: bool) -> None:
    """Do what a list says; with `faults`, die where it says so."""
    for what, *how in [*doings, ("tick", 3.0, "")]:
        if what == "predict":
            bench.predict(rows(how[0], how[1]), time=bench.now - how[1] / 10)
        elif what == "happened":
            bench.happened([how[0]], how[1], kind=how[2])
        elif what == "void":
            bench.void(1)
        elif what == "tick":
            bench.now += how[0]
            if faults and how[1] in ("fail", "both"):
                fail(bench)
            bench.tick(0.0)
            if faults and how[1] in ("crash", "both"):
                bench.crash()


def fail(bench: Bench) -> None:
    """A tick whose commit fails, and a new process after it."""
    bench.state.full = True
    with contextlib.suppress(StateError):
        bench.tick(0.0)
    bench.state.full = False
    bench.crash()


def bench_of(mode: str, batch: int = 5_000) -> Bench:
    return Bench(BASES[mode].replica(), POLICY, batch=batch, guard=GuardSettings(minimum=10, window=50))
