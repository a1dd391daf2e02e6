"""What data have said of one layer's weights, apart from the base prior, and the prior that this is of the next update.

A layer's weights are one matrix W (out, in), the bias its last column. With λ the base precision, whose mean is 0, and
J what data said, the posterior is N(M, (λI + J)⁻¹). The prior of an update that gives the past weight ω is

    P = λI + ωJ,    m = P⁻¹ ω (λI + J) M                       (the fold of `glmix._fold.stabilised`)

Every structure is diagonal in some basis: W̃ = UᵀWV, with U = V = I for the diagonal and the eigenvectors of G and A for
the Kronecker one, J = A ⊗ G. So both share their algebra.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Basis:
    """U (out, out) and V (in, in), None for the identity, and the eigenvalues of J (out, in) in that basis."""

    U: Tensor | None
    V: Tensor | None
    values: Tensor

    def of(self, W: Tensor) -> Tensor:
        """UᵀWV."""
        left = W if self.U is None else self.U.T.to(W) @ W
        return left if self.V is None else left @ self.V.to(W)

    def back(self, W: Tensor) -> Tensor:
        """Inverse of `of`."""
        left = W if self.U is None else self.U @ W
        return left if self.V is None else left @ self.V.T


@dataclass(frozen=True, slots=True)
class Prior:
    """A Gaussian N(m, P⁻¹) over a layer's weights, P diagonal in a basis."""

    m: Tensor
    P: Tensor
    basis: Basis

    def penalty(self, W: Tensor) -> Tensor:
        """½ (W − m)ᵀ P (W − m)."""
        return 0.5 * (self.P.to(W) * self.basis.of(W - self.m.to(W)).square()).sum()


@dataclass(frozen=True, slots=True)
class Diagonal:
    """One number per weight: `mean` M and `J`, both (out, in)."""

    mean: Tensor
    J: Tensor

    @classmethod
    def none(cls, W: Tensor) -> Diagonal:
        """Nothing said yet of weights of this shape."""
        return cls(torch.zeros_like(W), torch.zeros_like(W))

    def basis(self) -> Basis:
        """The weights' own."""
        return Basis(None, None, self.J)

    def weighed(self, omega: float) -> Diagonal:
        """What data said, counted ω times."""
        return replace(self, J=omega * self.J)

    def added(self, a: Tensor, g: Tensor, strength: Tensor) -> Diagonal:
        """With rows of inputs a (n, in) and gradients g (n, out) of the logit: J += Σ_n w_n D_n (g_n a_nᵀ)²."""
        return replace(self, J=self.J + (strength[:, None] * g.square()).T @ a.square())

    def grown(self, rows: int) -> Diagonal:
        """With new weights, of which nothing was said."""
        new = self.mean.new_zeros(rows - len(self.mean), self.mean.shape[1])
        return Diagonal(torch.cat([self.mean, new]), torch.cat([self.J, new]))

    def tensors(self) -> dict[str, Tensor]:
        """By name, for the disk."""
        return {"mean": self.mean, "J": self.J}


@dataclass(frozen=True, slots=True)
class Kronecker:
    """J = A ⊗ G: A (in, in) sums over rows, G (out, out) is a mean over as much `mass` Σ w_n D_n.

    Exact where g gᵀ is the same for all rows, as in the last layer and in networks without activations.
    """

    mean: Tensor
    A: Tensor
    G: Tensor
    mass: Tensor

    @classmethod
    def none(cls, W: Tensor) -> Kronecker:
        """Nothing said yet of weights of this shape."""
        out, wide = W.shape
        return cls(torch.zeros_like(W), W.new_zeros(wide, wide), W.new_zeros(out, out), W.new_zeros(()))

    def basis(self) -> Basis:
        """Eigenvectors of G and A."""
        s, V = torch.linalg.eigh(self.A)
        r, U = torch.linalg.eigh(self.G)
        return Basis(U, V, torch.outer(r.clamp(min=0.0), s.clamp(min=0.0)))

    def weighed(self, omega: float) -> Kronecker:
        """What data said, counted ω times."""
        return replace(self, A=omega * self.A, mass=omega * self.mass)

    def added(self, a: Tensor, g: Tensor, strength: Tensor) -> Kronecker:
        """With rows of inputs a (n, in) and gradients g (n, out): A += Σ w D a aᵀ, G the mean of all g gᵀ."""
        mass = self.mass + strength.sum()
        total = self.mass * self.G + (strength[:, None] * g).T @ g
        A = self.A + (strength[:, None] * a).T @ a
        return replace(self, A=A, G=total / mass if mass > 0 else self.G, mass=mass)

    def tensors(self) -> dict[str, Tensor]:
        """By name, for the disk."""
        return {"mean": self.mean, "A": self.A, "G": self.G, "mass": self.mass}


@dataclass(frozen=True, slots=True)
class Full:
    """All of J (d, d) over d weights of `mean` (d)."""

    mean: Tensor
    J: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """By name, for the disk."""
        return {"mean": self.mean, "J": self.J}


Evidence = Diagonal | Kronecker | Full


def prior(evidence: Diagonal | Kronecker, omega: float, precision: float) -> Prior:
    """The prior (m, P) of an update in which the past has weight ω."""
    basis = evidence.basis()
    P = precision + omega * basis.values
    m = basis.back(omega * (precision + basis.values) * basis.of(evidence.mean) / P)
    return Prior(m, P, basis)


def variance(evidence: Diagonal | Kronecker, a: Tensor, g: Tensor, precision: float) -> Tensor:
    """Variance (n) that a layer's weights leave in the logit: Jᵀ(λI + J)⁻¹J for rows of inputs a and gradients g."""
    basis = evidence.basis()
    left = g if basis.U is None else g @ basis.U
    right = a if basis.V is None else a @ basis.V
    return ((left.square() @ (1.0 / (precision + basis.values))) * right.square()).sum(1)


def from_tensors(tensors: Mapping[str, Tensor]) -> Evidence:
    """Inverse of `tensors`."""
    if "A" in tensors:
        return Kronecker(**tensors)
    return (Full if tensors["mean"].dim() == 1 else Diagonal)(**tensors)
