"""Certified updates of one effect against exact retraining (specification, section 6)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearline import ConfigError, Fixed, Forgetting, GLMix, Loadings, Numeric, Prior, Random, Schema
from nearline.glmix import Certifier
from nearline.glmix._certify import FAILED, UNSURE

SCHEMA = Schema(label="y", weight="w", offset="o", time="t", columns={c: Numeric(0, 1) for c in ("a", "b")})


def rows(seed: int, n: int = 40, link: str = "logit", **columns: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n) if link == "logit" else rng.normal(size=n)
    made = {"user": rng.integers(0, 5, n), "y": y, "w": rng.uniform(0.5, 2.0, n), "o": rng.normal(size=n)}
    return {**made, "t": np.full(n, 100.0 * seed), "a": rng.normal(size=n), "b": rng.normal(size=n), **columns}


def model(link: str = "logit", **options: Any) -> GLMix:
    user = Random("user", on=["a"], prior=Prior({"(intercept)": 0.5, "*": 0.25}), posterior="full", **options)
    return GLMix(SCHEMA, Fixed("b"), [user], link=link)


@pytest.mark.parametrize("link", ["logit", "identity"])
@pytest.mark.parametrize("form", ["never", "per_update", "stabilised"])
def test_what_it_says_of_an_entity_is_so(link: str, form: str) -> None:
    """Distance, in prior standard deviations, and improvement, against a refit of the entity on all its rows."""
    options: dict[str, Any] = {
        "never": {},
        "per_update": {"forgetting": Forgetting(form="per_update", delta=0.8)},
        "stabilised": {"forgetting": Forgetting(form="stabilised", half_life=300.0)},
    }[form]
    delta = {"never": 1.0, "per_update": 0.8, "stabilised": 2 ** (-1 / 3)}[form]
    learner = model(link, **options)
    certifier = Certifier(learner, "user", limit=0.5)
    slices = [rows(seed, link=link, user=np.arange(40) % 5) for seed in range(6)]
    for t, part in enumerate(slices):
        found = certifier.partial_fit(part)
        exact = model(link)
        both = {c: np.concatenate([s[c] for s in slices[: t + 1]]) for c in part}
        both["w"] = both["w"] * np.repeat(delta ** np.arange(t, -1.0, -1.0), 40)
        exact.partial_fit(both, mode="minibatch", locked=["fixed"])
        block, twin = learner.block("user"), exact.block("user")
        far = np.linalg.norm(block.mean[found.codes] - twin.mean[found.codes], axis=1) * np.sqrt(2.0)
        assert (far <= found.distance + 1e-5).all()
        assert found.refit.tolist() == (found.distance > 0.5).tolist()
        assert [not reason for reason in found.reasons] == (found.improvement > 0).tolist()
    if link == "identity":
        np.testing.assert_allclose(found.distance, 0.0, atol=1e-6)
        assert found.certified.all()


def test_the_rows_of_the_fit_count_as_a_past_batch() -> None:
    learner = model()
    history = rows(0, n=200)
    learner.fit(history, cycles=50, tolerance=1e-12)
    trusting, knowing = Certifier(learner.fork(), "user"), Certifier(learner, "user", history=history)
    exact, known = trusting.partial_fit(rows(1)), knowing.partial_fit(rows(1))
    assert (exact.distance < 1e-3).all()
    assert (known.distance > exact.distance).all()


def test_what_is_learned_otherwise_is_taken_for_exact() -> None:
    learner = model()
    certifier = Certifier(learner, "user")
    certifier.partial_fit(rows(0))
    assert (certifier.partial_fit(rows(1)).distance > 1e-3).all()
    learner.partial_fit(rows(2))
    assert (certifier.partial_fit(rows(3)).distance < 1e-3).all()


def test_every_update_that_is_not_certified_has_a_reason() -> None:
    """500 updates with wild features: some cannot be certified, and each says why; they are learned all the same."""
    learner = model()
    certifier, reasons = Certifier(learner, "user"), []
    for seed in range(100):
        part = rows(seed, user=np.arange(40) % 5)
        part["a"] = part["a"] * 4.0
        found = certifier.partial_fit(part)
        reasons += list(found.reasons)
        assert (found.certified == (found.improvement > 0)).all()
    assert len(reasons) == 500
    assert set(reasons) == {"", UNSURE}
    assert learner.events_learned == 4_000


def test_an_entity_whose_solve_fails_says_so_and_the_others_are_certified() -> None:
    learner = model("identity")
    certifier = Certifier(learner, "user")
    certifier.partial_fit(rows(0, link="identity", user=np.arange(40) % 2))
    bad = rows(1, link="identity", user=np.arange(40) % 2)
    bad["a"] = np.where(np.asarray(bad["user"]) == 1, 1e200, bad["a"])
    at, before = learner.encoder.entity_codes("user")[1], learner.block("user").mean.tobytes()
    with np.errstate(over="ignore", invalid="ignore"):
        found = certifier.partial_fit(bad)
    by_code = dict(zip(found.codes.tolist(), found.reasons))
    assert by_code.pop(at) == FAILED
    assert list(by_code.values()) == [""]
    assert learner.block("user").mean[at].tobytes() == np.frombuffer(before).reshape(-1, 2)[at].tobytes()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GLMix(SCHEMA, random=[Random("user")], link="log"), "log link has no bounded third derivative"),
        (lambda: GLMix(SCHEMA, random=[Random("user", posterior="diagonal")]), "the precision is not full"),
        (lambda: GLMix(SCHEMA, random=[Random("user", forgetting=Forgetting(5.0))]), "not multiplicative"),
        (
            lambda: GLMix(SCHEMA, random=[Random("user", forgetting=Forgetting(walk_per_day=0.1))]),
            "not multiplicative",
        ),
        (
            lambda: GLMix(SCHEMA, random=[Random("user"), Random("item", forgetting=Forgetting(5.0))]),
            "'item' forgets, and with it moves the offsets",
        ),
        (lambda: GLMix(SCHEMA, random=[Random("user"), Loadings("item", of="user")]), "part of a product"),
    ],
)
def test_no_certificate_where_none_holds(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Certifier(make(), "user")


def test_a_limit_is_positive() -> None:
    with pytest.raises(ConfigError, match="limit"):
        Certifier(model(), "user", limit=0.0)
