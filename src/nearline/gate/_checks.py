"""The checks of the publish gate, one function each: what is measured, and the sentence that says it.

The candidate has to prove that its loss is not above the live one's by more than a tolerance; every other check refuses
it where harm is proven. Both at the gate's confidence c, with intervals at 2c − 1, whose ends are the one-sided bounds.
"""

from __future__ import annotations

import math

import numpy as np

from nearline.evaluate import Ratio, clustered_ratio, wilson_interval
from nearline.gate._evidence import Floats, Pair
from nearline.gate._publish_settings import PublishSettings
from nearline.gate._verdict import Check, Range

_BINS = 10


def examples(pair: Pair, s: PublishSettings) -> Check:
    """There are enough."""
    n = len(pair.label)
    enough = n >= s.minimum and pair.weight.sum() > 0
    need = "" if enough else f", {s.minimum:,} are needed"
    return Check("examples", n, None, (s.minimum, math.inf), bool(enough), f"{n:,} with an outcome{need}")


def loss(pair: Pair, s: PublishSettings) -> Check:
    """The candidate's loss, relative to the live one's, is shown to be below the tolerance."""
    found = change(pair)
    low, high = found.interval(2 * s.confidence - 1)
    passed, name = high <= s.tolerance, _LOSS[pair.link.name]
    said = f"{name} {_mean(pair, pair.candidate_loss):.4f} against {_mean(pair, pair.live_loss):.4f} live: "
    said += f"{_moved(found.estimate)} ({_signed(low)} to {_signed(high)})"
    if not passed:
        said += f", {_percent(s.tolerance)} more is allowed" + _lacking(found, s, len(pair.label))
    return Check("loss", found.estimate, (low, high), (-math.inf, s.tolerance), passed, said)


def change(pair: Pair) -> Ratio:
    """Σ w (ℓ_candidate − ℓ_live) / Σ w ℓ_live: what the candidate adds to the loss, as a share of it."""
    added = pair.weight * (pair.candidate_loss - pair.live_loss)
    return clustered_ratio(added, pair.weight * pair.live_loss, pair.entities)


def calibration(pair: Pair, s: PublishSettings) -> Check:
    """Σ w p / Σ w y is not shown to lie outside its range, or lies no farther from 1 than with live."""
    found, live = (_predicted_over_actual(pair, margin) for margin in (pair.candidate, pair.live))
    low, high = found.interval(2 * s.confidence - 1)
    least, most = s.calibration
    outside = high < least or low > most
    nearer = found.estimate > 0 and live.estimate > 0 and _distance(found) <= _distance(live)
    said = f"predicts {found.estimate:.3f} times what happens ({low:.3f} to {high:.3f}), live {live.estimate:.3f}"
    if outside:
        said += f"; {least:g} to {most:g} is allowed" + (", but it is no farther off than live" if nearer else "")
    return Check("calibration", found.estimate, (low, high), s.calibration, not outside or nearer, said)


def calibration_error(pair: Pair, s: PublishSettings) -> Check:
    """The mean gap over bins is not shown to be too large, or is no larger than live's."""
    (value, low, high), (live, _, _) = (_gaps(pair, margin, s) for margin in (pair.candidate, pair.live))
    passed = low <= s.calibration_error or value <= live
    said = f"off by {value:.4f} on average over {_BINS} bins ({low:.4f} to {high:.4f}), live {live:.4f}"
    if low > s.calibration_error:
        said += f"; {s.calibration_error:g} is allowed" + (", but live is no better" if passed else "")
    return Check("calibration_error", value, (low, high), (0.0, s.calibration_error), passed, said)


def negative_flips(pair: Pair, s: PublishSettings) -> Check:
    """The share of examples right before and wrong now is not shown to be too large."""
    (value, ends), back = flips(pair, s), _mean(pair, _flipped(pair, s, back=True))
    passed = ends[0] <= s.negative_flips
    said = f"{_percent(value)} right before and wrong now ({_percent(ends[0])} to {_percent(ends[1])}), "
    said += f"{_percent(back)} the other way"
    if not passed:
        said += f"; {_percent(s.negative_flips)} is allowed"
    return Check("negative_flips", value, ends, (0.0, s.negative_flips), passed, said)


def flips(pair: Pair, s: PublishSettings) -> tuple[float, Range]:
    """NFR = Σ w [live right, candidate wrong] / Σ w, and its Wilson interval.

    The interval is of the number of rows that would have the clustered error, never more than there are.
    """
    flipped = _flipped(pair, s)
    found = clustered_ratio(pair.weight * flipped, pair.weight, pair.entities)
    share, n = found.estimate, float(len(pair.label))
    if found.error > 0 and 0 < share < 1:
        n = min(n, share * (1 - share) / found.error**2)
    return share, wilson_interval(share, n, 2 * s.confidence - 1)


def at_most(
    name: str, unit: str, live: float | None, candidate: float | None, ratio: float, floor: float
) -> list[Check]:
    """A cost is within `ratio` times the live one. None measured is no check; up to `floor` it may be anything."""
    if candidate is None:
        return []
    limit = max(floor, ratio * live) if live is not None else math.inf
    passed = candidate <= limit
    against = "" if live is None else f", live {_amount(live, unit)}"
    beyond = "" if passed else f"; {_amount(limit, unit)} is allowed"
    return [Check(name, candidate, None, (0.0, limit), passed, f"{_amount(candidate, unit)}{against}{beyond}")]


def _flipped(pair: Pair, s: PublishSettings, back: bool = False) -> Floats:
    cut, positive = math.log(s.threshold / (1 - s.threshold)), pair.label > 0.5
    live, candidate = ((margin > cut) == positive for margin in (pair.live, pair.candidate))
    return np.asarray(candidate & ~live if back else live & ~candidate, np.float64)


def _predicted_over_actual(pair: Pair, margin: Floats) -> Ratio:
    return clustered_ratio(pair.weight * pair.link.mean(margin), pair.weight * pair.label, pair.entities)


def _distance(ratio: Ratio) -> float:
    return abs(math.log(ratio.estimate))


def _gaps(pair: Pair, margin: Floats, s: PublishSettings) -> tuple[float, float, float]:
    """ECE = Σ_b (w_b / W) |gap_b| and bounds on it that hold together over the bins (Bonferroni)."""
    order, p = np.argsort(margin, kind="stable"), pair.link.mean(margin)
    total, value, low, high = float(pair.weight.sum()), 0.0, 0.0, 0.0
    for rows in np.array_split(order, min(_BINS, len(order))):
        w = pair.weight[rows]
        gap = clustered_ratio(w * (p - pair.label)[rows], w, [codes[rows] for codes in pair.entities])
        if not w.sum():
            continue
        share, off, room = float(w.sum()) / total, abs(gap.estimate), gap.room(1 - (1 - s.confidence) / _BINS)
        value, low, high = value + share * off, low + share * max(0.0, off - room), high + share * (off + room)
    return value, low, min(high, 1.0)


def _mean(pair: Pair, values: Floats) -> float:
    total = float(pair.weight.sum())
    return float(pair.weight @ values) / total if total else math.nan


def _lacking(found: Ratio, s: PublishSettings, n: int) -> str:
    """How many examples would tell, where the estimate itself is within the tolerance."""
    spare = s.tolerance - found.estimate
    if not (spare > 0 and math.isfinite(found.error)):
        return ""
    need = n * (found.room(s.confidence) / spare) ** 2
    return f"; about {float(f'{need:.1e}'):,.0f} examples would tell" if need < 1e9 else ""


_LOSS = {"logit": "log loss", "identity": "half squared error", "log": "half deviance"}


def _moved(share: float) -> str:
    return f"{_percent(abs(share))} {'more' if share > 0 else 'less'}"


def _signed(share: float) -> str:
    return f"{share:+.2%}"


def _percent(share: float) -> str:
    return f"{share:.2%}".replace(".00%", "%")


def _amount(value: float, unit: str) -> str:
    return f"{1e3 * value:.3g} ms" if unit == "s" else f"{value / 1e6:,.1f} MB"
