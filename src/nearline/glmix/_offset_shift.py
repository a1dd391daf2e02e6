"""When the global model changes, entity posteriors can be repaired instead of replayed: one matrix per entity."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearline._errors import DataError

Floats = NDArray[np.float64]


def cross_curvature(z: ArrayLike, x: ArrayLike, weight: ArrayLike, curvature: ArrayLike) -> Floats:
    """How an entity's gradient moves with the fixed effect's coefficients.

        C = Σ_n w_n D_n z_n x_nᵀ

    Parameters
    ----------
    z, x
        Designs of the entity's rows, (n, d), and of the fixed effect on the same rows, (n, d_f).
    weight, curvature
        w and D = ∂²ℓ/∂η² at the entity's mode, (n) each; weights discounted to now as the posterior is.

    Returns
    -------
    ndarray
        C (d, d_f). It adds up over rows, and decays with the entity's evidence: C ← δ C + new rows.

    >>> cross_curvature([[1.0], [1.0]], [[1.0, 2.0], [1.0, 0.0]], [1.0, 1.0], [0.25, 0.25])
    array([[0.5, 0.5]])
    """
    rows = [np.asarray(part, np.float64) for part in (z, x, weight, curvature)]
    n = len(rows[0])
    shapes = [part.shape for part in rows]
    if [len(shape) for shape in shapes] != [2, 2, 1, 1] or any(shape[0] != n for shape in shapes):
        raise DataError(f"z (n, d), x (n, d_f), weight (n) and curvature (n) do not go together: {shapes}")
    return np.asarray((rows[0] * (rows[2] * rows[3])[:, None]).T @ rows[1])


def offset_shift(mean: ArrayLike, covariance: ArrayLike, cross: ArrayLike, shift: ArrayLike) -> Floats:
    """An entity's mean after the fixed effect moved, as if its rows had been learned with the new offsets.

        θ' = θ − H⁻¹ C Δb

    Exact for the identity link; otherwise to first order in Δb. Against exact refits it takes the mean squared error
    from 1.48 to 0.016 posterior variances (specification, section 5.5). The covariance stays. This is for stores that
    keep C (d · d_f numbers per entity); the running service replays instead, which is exact.

    Parameters
    ----------
    mean, covariance
        θ (d) and H⁻¹ (d, d); or of several entities at once, (E, d) and (E, d, d).
    cross
        C (d, d_f) or (E, d, d_f), see `cross_curvature`.
    shift
        Δb (d_f): the new fixed coefficients less the old.

    Raises
    ------
    DataError
        Shapes that do not go together.

    Examples
    --------
    Two rows with z = 1 and prior precision 1: H = 3, C = 2. An intercept that rises by 0.3 takes 0.2 from the entity:

    >>> offset_shift([1.0], [[1 / 3]], [[2.0]], [0.3])
    array([0.8])
    """
    theta, V, C, delta = (np.asarray(part, np.float64) for part in (mean, covariance, cross, shift))
    d = theta.shape[-1] if theta.ndim else 0
    wanted = (*theta.shape[:-1], d, d), (*theta.shape[:-1], d, *delta.shape)
    if theta.ndim not in (1, 2) or delta.ndim != 1 or (V.shape, C.shape) != wanted:
        raise DataError(
            f"mean {theta.shape}, covariance {V.shape}, cross {C.shape} and shift {delta.shape} do not go together",
            fix="give (d), (d, d), (d, d_f) and (d_f), the first three with entities in front for several",
        )
    moved: Floats = theta - np.einsum("...ij,...jk,k->...i", V, C, delta)
    return moved
