"""Compiled kernels: the only modules that import numba; everything else imports them lazily, inside functions."""
