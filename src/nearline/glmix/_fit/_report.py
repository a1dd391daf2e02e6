"""How a batch fit went: block by block, cycle by cycle."""

from __future__ import annotations

from dataclasses import dataclass

from nearline.glmix._solve import STATUSES


@dataclass(frozen=True, slots=True)
class BlockFit:
    """One block's solve in one cycle.

    Attributes
    ----------
    effect, cycle
        Which block, in which cycle (from 1).
    objective
        Φ once it was solved.
    gradient_norm
        ‖∇Φ‖₂ over the block's coefficients as its turn came: what the others' moves left it to do, 0 in the end.
        NaN for low-rank entities and for both sides of a product.
    iterations
        Newton steps, of all entities together.
    status
        Entities by how their solve ended: converged, not_converged, not_positive_definite, non_finite.
    rows
        Rows of positive weight that it learned from: fewer than there are where rows are sampled.
    variances
        What its variances are: "exact", "low rank", "diagonal (a lower bound)" or "none (the prior's)".
    seconds
        By the clock given, else 0.
    """

    effect: str
    cycle: int
    objective: float
    gradient_norm: float
    iterations: int
    status: dict[str, int]
    rows: int
    variances: str
    seconds: float

    @property
    def unsolved(self) -> int:
        """Entities whose solve did not converge."""
        return sum(self.status.get(status, 0) for status in STATUSES[1:])


@dataclass(frozen=True, slots=True)
class Convergence:
    """How a batch fit went.

    Attributes
    ----------
    objective
        Φ after every cycle, over all rows; where blocks forget or sample, each block weighs rows its own way, and with
        loadings the uncertainty of one side counts in the solve of the other: Φ is only a guide then.
    converged
        Whether the last cycle changed Φ by less than the tolerance.
    unsolved
        Entities per effect whose last solve did not converge; they kept their prior.
    log_evidence
        Laplace log p(data | prior) of every effect's blocks, the other effects' scores given.
    joint_log_evidence
        The same of all effects together, the loss counted once; curvature between effects is dropped.
    blocks
        Every solve, in order.
    """

    objective: tuple[float, ...]
    converged: bool
    unsolved: dict[str, int]
    log_evidence: dict[str, float]
    joint_log_evidence: float
    blocks: tuple[BlockFit, ...] = ()

    def __str__(self) -> str:
        """Table of every solve, for a log."""
        row = "{:>5}  {:<16} {:>16} {:>10} {:>9} {:>8} {:>8}".format
        head = row("cycle", "effect", "objective", "gradient", "steps", "unsolved", "seconds")
        lines = [
            row(
                b.cycle, b.effect, f"{b.objective:.6f}", f"{b.gradient_norm:.2e}", b.iterations, b.unsolved,
                f"{b.seconds:.2f}",
            )
            for b in self.blocks
        ]  # fmt: skip
        return "\n".join([head, *lines, "converged" if self.converged else "not converged"])
