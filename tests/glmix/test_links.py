"""Row losses against their own derivatives, their limits, and the compiled twins (specification, sections 1 and 8)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline._errors import ConfigError, DataError
from nearline.glmix._kernels import _scalar
from nearline.glmix._links import by_name

NAMES = ("logit", "identity", "log")
LABELS = {"logit": (0.0, 1.0), "identity": (-2.5, 3.5), "log": (0.0, 4.0)}
margins = st.floats(-15.0, 15.0)


def _arrays(*values: float) -> tuple[np.ndarray, ...]:
    return tuple(np.array([v]) for v in values)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)
@given(eta=margins, first=st.booleans())
def test_gradient_and_curvature_are_the_derivatives_of_the_loss(name: str, eta: float, first: bool) -> None:
    link, h = by_name(name), 1e-4
    y, at, low, high = _arrays(LABELS[name][0 if first else 1], eta, eta - h, eta + h)
    scale = 1.0 + math.exp(eta) if name == "log" else 1.0 + abs(eta)
    slope = (link.loss(y, high) - link.loss(y, low)) / (2 * h)
    bend = (link.gradient(y, high) - link.gradient(y, low)) / (2 * h)
    assert link.gradient(y, at)[0] == pytest.approx(slope[0], abs=1e-6 * scale)
    assert link.curvature(y, at)[0] == pytest.approx(bend[0], abs=1e-6 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_third_derivative_never_exceeds_c3_nor_the_curvature(name: str) -> None:
    """The certificate rests on c3, the unguarded full Newton step on |ℓ'''| ≤ ℓ''."""
    link, h = by_name(name), 1e-4
    eta = np.linspace(-30, 30, 60001)
    third = np.abs(link.curvature(eta, eta + h) - link.curvature(eta, eta - h)) / (2 * h)
    assert (third <= link.c3 + 1e-6).all()
    assert (third <= link.curvature(eta, eta) * (1 + 1e-6)).all()
    if name == "logit":
        assert third.max() == pytest.approx(1 / (6 * math.sqrt(3)), rel=1e-6)


def test_logistic_loss_of_an_opposed_certain_row_is_its_margin() -> None:
    """Defect 3: an offset of 800 costs 800 per opposed row, with a finite gradient."""
    link = by_name("logit")
    y, eta = np.array([0.0, 1.0, 1.0, 0.0]), np.array([800.0, -800.0, 800.0, -800.0])
    assert link.loss(y, eta).tolist() == [800.0, 800.0, 0.0, 0.0]
    assert link.gradient(y, eta).tolist() == [1.0, -1.0, 0.0, 0.0]
    assert link.curvature(y, eta).tolist() == [0.0, 0.0, 0.0, 0.0]


@settings(deadline=None)
@given(eta=st.floats(-700.0, -37.0))
def test_logistic_tail_keeps_its_relative_precision(eta: float) -> None:
    """1 − p rounds to 0 at |η| = 40; the gradient of a right row is e^−|η| to full precision all the same."""
    link, expected = by_name("logit"), math.exp(eta)
    assert link.gradient(*_arrays(0.0, eta))[0] == pytest.approx(expected, rel=1e-12)
    assert link.gradient(*_arrays(1.0, -eta))[0] == pytest.approx(-expected, rel=1e-12)
    assert link.loss(*_arrays(1.0, -eta))[0] == pytest.approx(expected, rel=1e-12)


def test_logistic_loss_is_the_same_for_both_codings() -> None:
    """Section 1: for y ∈ {−1, +1} the row loss is log(1 + e^(−yη))."""
    link, eta = by_name("logit"), np.linspace(-9, 9, 19)
    for sign in (-1.0, 1.0):
        coded = link.labels(np.full_like(eta, sign))
        np.testing.assert_allclose(link.loss(coded, eta), np.log1p(np.exp(-sign * eta)), rtol=1e-12)


def test_mean_inverts_the_link() -> None:
    eta = np.array([-2.0, 0.0, 1.5])
    np.testing.assert_allclose(by_name("logit").mean(eta), 1 / (1 + np.exp(-eta)), rtol=1e-15)
    np.testing.assert_allclose(by_name("log").mean(eta), np.exp(eta))
    assert by_name("identity").mean(eta).tolist() == eta.tolist()


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)
@given(eta=st.floats(-800.0, 700.0), first=st.booleans())
def test_compiled_twins_agree(name: str, eta: float, first: bool) -> None:
    link, y = by_name(name), LABELS[name][0 if first else 1]
    arrays = _arrays(y, eta)
    assert _scalar.loss(link.code, y, eta) == pytest.approx(link.loss(*arrays)[0], rel=1e-13)
    assert _scalar.gradient(link.code, y, eta) == pytest.approx(link.gradient(*arrays)[0], rel=1e-13)
    assert _scalar.curvature(link.code, y, eta) == pytest.approx(link.curvature(*arrays)[0], rel=1e-13)
    assert _scalar.mean(link.code, eta) == pytest.approx(link.mean(arrays[1])[0], rel=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_compiled_twins_let_nan_and_overflow_through(name: str) -> None:
    code = by_name(name).code
    assert math.isnan(_scalar.gradient(code, 1.0, math.nan))
    assert math.isnan(_scalar.loss(code, 1.0, math.nan))
    assert _scalar.loss(by_name("log").code, 1.0, 1000.0) == math.inf


def test_labels_are_never_mapped_silently() -> None:
    """Defect 5: 3.5 stays 3.5 for an identity link and is refused by the logit."""
    assert by_name("identity").labels([3.5, -1.0]).tolist() == [3.5, -1.0]
    assert by_name("log").labels([0, 7]).tolist() == [0.0, 7.0]
    assert by_name("logit").labels([True, False]).tolist() == [1.0, 0.0]
    for name, wrong in (
        ("logit", [3.5]),
        ("logit", [-1, 0]),
        ("logit", [0.5]),
        ("log", [-1.0]),
        ("identity", [math.nan]),
    ):
        with pytest.raises(DataError, match=name):
            by_name(name).labels(wrong)


def test_unknown_link_is_named() -> None:
    with pytest.raises(ConfigError, match="'probit'"):
        by_name("probit")
