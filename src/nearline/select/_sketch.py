"""A few random projections of a row's gradient: recorded of the features at serving, of the gradient at label time."""

from __future__ import annotations

from typing import Any

import numpy as np

from nearline.select._scores import Floats


def signs(seed: int, size: int, k: int) -> Floats:
    """K random vectors of +-1, (k, size), from a recorded seed."""
    return np.asarray(np.random.default_rng(seed).choice([-1.0, 1.0], size=(k, size)))


def sketch_inputs(h: Any, v: Floats) -> Floats:
    """t_k = v_k . [h; 1], (n, K): what is recorded at serving.

    Parameters
    ----------
    h : array (n, d)
        Inputs of the last layer.
    v : array (K, d + 1)
        From `signs`.
    """
    h = np.asarray(h, dtype=np.float64)
    return np.asarray(h @ v[:, :-1].T + v[:, -1])


def sketch_gradients(error: Any, inputs: Any) -> Floats:
    """(p - y) t_k, (n, K): sketches of the last layer's gradients (p - y) [h; 1]; (1/K) a_i . a_j estimates g_i . g_j.

    >>> sketch_gradients([0.5], [[2.0, -4.0]])
    array([[ 1., -2.]])
    """
    return np.asarray(np.asarray(error, dtype=np.float64)[:, None] * np.asarray(inputs, dtype=np.float64))


def sketch_class_gradients(outputs: Any, inputs: Any, u: Floats, label: Any) -> Floats:
    """(u_k . p - u_k[y]) t_k, (n, K), for several classes.

    Parameters
    ----------
    outputs : array (n, K)
        u_k . p, recorded at serving.
    inputs : array (n, K)
        t_k, recorded at serving.
    u : array (K, C)
        From `signs`.
    label : array (n,) of int
        y in 0 .. C - 1.
    """
    own = u[:, np.asarray(label, dtype=np.int64)].T
    return np.asarray((np.asarray(outputs, dtype=np.float64) - own) * np.asarray(inputs, dtype=np.float64))
