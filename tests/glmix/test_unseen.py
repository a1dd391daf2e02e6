"""Section 4.3: an unseen feature contributes μ0 x, its variance enters exploration, and it is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearline import DataError, Fixed, GLMix, Multi, Numeric, Prior, Random, Schema

SCHEMA = Schema("y", columns={"x": Numeric(0, 1), "tags": Multi()})
PRIOR = Prior({"(intercept)": 1.0, "tags": 2.0}, {"tags": -0.2})
ROWS = {"user": [1, 2, 1], "x": [0.5, 1.0, -1.0], "g": ["a", "b", "a"], "tags": [["s"], ["t"], []], "y": [1, 0, 1]}
KNOWN = {"user": [1, 1, 2], "x": [1.0] * 3, "g": ["a"] * 3, "tags": [["s"]] * 3}
STRANGE = {**KNOWN, "g": ["?", "?", "?"], "tags": [["u", "v"], ["u"], ["u"]]}
DRAWS = 60_000


def model() -> GLMix:
    found = GLMix(SCHEMA, Fixed("x", "g", prior=Prior(0.25, {"g": 0.1})), [Random("user", on=["tags"], prior=PRIOR)])
    found.partial_fit(ROWS)
    return found


def test_its_prior_counts_in_score_and_variance() -> None:
    """Beside the same rows without it: z + Σ μ0 x, s + Σ σ0² x², over the effects that select its column."""
    served = model()
    without = {**KNOWN, "g": ["?"] * 3, "tags": [[], [], []]}
    bare, s_bare = served._score(without, variances=True)
    z, s = served._score(STRANGE, variances=True)
    np.testing.assert_allclose(z - bare, [-0.4, -0.2, -0.2], rtol=1e-12)
    np.testing.assert_allclose(s - s_bare, [4.0, 2.0, 2.0], rtol=1e-12)
    level = served.decision_function(without) - served.decision_function({**without, "g": ["a"] * 3})
    known = {c.name: c.mean for c in served.coefficients("fixed")}["g=a"]
    np.testing.assert_allclose(level, 0.1 - known, rtol=1e-12)
    assert served.design(STRANGE, learn=False)[0].unseen == 3 + 4


def test_a_vector_and_a_number_count_by_their_values() -> None:
    prior = Prior({"(intercept)": 1.0, "v": 0.5, "x": 3.0}, {"v": 2.0, "x": 1.0})
    schema = Schema("y", columns={"x": Numeric(0, 1)})
    fresh = GLMix(schema, Fixed("v", "x", intercept=False, prior=prior))
    z, s = fresh._score({"v": [[1.0, 0.0, -3.0]], "x": [2.0]}, variances=True)
    np.testing.assert_allclose([z[0], s[0]], [2.0 * (1 - 3) + 2.0, 0.5 * (1 + 9) + 3.0 * 4], rtol=1e-12)


def test_a_number_of_unknown_unit_adds_nothing() -> None:
    """Nothing was seen of its column: what 1990 is in standard deviations nobody can tell."""
    fresh = GLMix(Schema("y"), Fixed("year", prior=Prior(1.0, 1.0)))
    z, s = fresh._score({"year": [1990.0]}, variances=True)
    assert (z[0], s[0]) == (1.0, 1.0)


def test_draws_have_its_mean_and_variance_one_for_each_entity_and_level() -> None:
    served = model()
    z, s = served._score(STRANGE, variances=True)
    draws = served.sample(STRANGE, size=DRAWS, seed=1)
    np.testing.assert_allclose(draws.mean(axis=0), z, atol=5 * np.sqrt(s.max() / DRAWS))
    found = np.cov(draws.T)
    np.testing.assert_allclose(np.diag(found), s, rtol=0.03)
    # Rows 0 and 1 are of one user and share the draw of its "u" (variance 2); row 2 is of another.
    base = np.cov(served.sample({**STRANGE, "tags": [[], [], []]}, size=DRAWS, seed=2).T)
    np.testing.assert_allclose(found[0, 1] - base[0, 1], 2.0, atol=0.15)
    np.testing.assert_allclose(found[0, 2], base[0, 2], atol=0.15)
    np.testing.assert_allclose(served.sample(STRANGE, scale=0.0)[0], z, atol=1e-12)


def test_an_explanation_names_it() -> None:
    served = model()
    terms = {(term.effect, term.feature): term for term in served.explain(STRANGE)[0]}
    g, u = terms["fixed", "g=?"], terms["user", "tags=u"]
    assert (g.value, g.contribution, g.sd, g.entity) == (1.0, 0.1, 0.5, None)
    assert (u.value, u.contribution, u.sd, u.entity) == (1.0, -0.2, np.sqrt(2.0), 1)
    total = sum(term.contribution for term in terms.values())
    np.testing.assert_allclose(total, served.decision_function(STRANGE)[0], rtol=1e-12)


@pytest.mark.parametrize("verb", ["partial_fit", "fit", "progressive"])
def test_a_design_with_it_is_not_learned(verb: Any) -> None:
    """Its value would be lost: it needs a slot first."""
    served = model()
    design, _ = served.design({**STRANGE, "y": [1, 0, 1]}, learn=False)
    with pytest.raises(DataError, match=r"a feature value without a coefficient; make it with design\(..., learn=True"):
        getattr(served, verb)(design)
