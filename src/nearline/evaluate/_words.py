"""Numbers, spans of time and update intervals in words that people read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from nearline.evaluate._backtest import Variant
from nearline.glmix._replay import seconds

Floats = NDArray[np.float64]

NBSP = "\N{NO-BREAK SPACE}"
NOTHING = "–"
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_SPANS = ((365.25 * 86_400, "year"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
# Clocks that never leave the early seventies count from a start of their own, not from the epoch.
_EARLIEST = 1e8


def number(value: float, digits: int) -> str:
    """A number with so many decimals and separated thousands; a dash for what is not finite.

    >>> number(1234.5, 1), number(float("nan"), 1)
    ('1,234.5', '–')
    """
    return f"{value:,.{digits}f}" if math.isfinite(value) else NOTHING


def significant(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, without an exponent where it can be read without one.

    >>> significant(0.17678), significant(16.0), significant(0.0009766), significant(2.5e-9)
    ('0.177', '16', '0.000977', '2.5e-09')
    """
    if not math.isfinite(value):
        return NOTHING
    if value == 0 or 1e-5 <= abs(value) < 1e6:
        rounded = float(f"{value:.{digits}g}")
        places = max(0, digits - 1 - math.floor(math.log10(abs(rounded)))) if rounded else 0
        text = f"{rounded:,.{places}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.{digits}g}"


def short(value: float, digits: int = 3) -> str:
    """A count on an axis or in a narrow column.

    >>> short(950), short(4500), short(250_000), short(1e6)
    ('950', '4.5k', '250k', '1M')
    """
    if not math.isfinite(value):
        return NOTHING
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return significant(value / size, digits) + letter
    return significant(value, max(3, digits))


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage.

    >>> percent(0.0381).replace(NBSP, " ")
    '3.8 %'
    """
    return f"{number(100 * share, digits)}{NBSP}%"


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "event"), plural(36000, "event"), plural(2, "entity")
    ('1 event', '36,000 events', '2 entities')
    """
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun[:-1] + 'ies' if noun.endswith('y') and noun[-2] not in 'aeou' else noun + 's'}"


def span(length: float) -> str:
    """Seconds as the largest unit that holds them.

    >>> span(543_978), span(3_600), span(0.02)
    ('6.3 days', '1 hour', '0.02 seconds')
    """
    size, unit = next(((s, u) for s, u in _SPANS if length >= s), _SPANS[-1])
    text = significant(length / size, 2 if length / size < 10 else 3)
    return f"{text} {unit}{'' if text == '1' else 's'}"


def cadence(every: int | str) -> str:
    """How often a model is updated, to follow a verb.

    >>> cadence(1), cadence(4500), cadence("1d"), cadence("10min")
    ('after every event', 'after every 4,500 events', 'every day', 'every 10 minutes')
    """
    if isinstance(every, int):
        return "after every event" if every == 1 else f"after every {every:,} events"
    words = span(seconds(every))
    return f"every {words[2:] if words.startswith('1 ') else words}"


def tick(every: int | str) -> str:
    """An update interval as the label of a point.

    >>> tick(1), tick(4500), tick("1d"), tick("6h")
    ('event', '4.5k', 'day', '6 hours')
    """
    if isinstance(every, int):
        return "event" if every == 1 else short(every)
    return cadence(every).removeprefix("every ")


def keeping(variant: Variant) -> str:
    """What a variant does to stay up to date, as a gerund phrase.

    >>> keeping(Variant("a", every="1h")), keeping(Variant("b", learns="nothing"))
    ('updating every hour', 'never updating')
    """
    also = " and recalibrating" if variant.recalibrate else ""
    if variant.learns == "fixed":
        return f"updating the fixed effect alone {cadence(variant.every)}{also}"
    if variant.learns == "nothing":
        return f"{'never updating' if variant.refit is None else f'refitting {cadence(variant.refit)}'}{also}"
    return f"updating {cadence(variant.every)}{also}"


def is_calendar(time: Floats) -> bool:
    """Whether times are dates, rather than seconds since some start of the stream's own."""
    return len(time) > 0 and bool(time.min() > _EARLIEST) and bool(time.max() < 2e11)


def moment(when: float) -> str:
    """A time in seconds since the epoch, to the minute.

    >>> moment(956_703_932.0).replace(NBSP, " ")
    '25 Apr 2000 23:05'
    """
    d = datetime.fromtimestamp(when, UTC)
    return f"{_day(d)} {d:%Y}{NBSP}{d:%H:%M}"


def moments(times: Sequence[float]) -> list[str]:
    """Labels of an axis, as coarse as still tells them apart.

    >>> moments([956_703_932.0, 1_046_454_590.0])
    ['2000', '2003']
    """
    dates = [datetime.fromtimestamp(t, UTC) for t in times]
    one_year, one_day = len({d.year for d in dates}) == 1, len({d.date() for d in dates}) == 1
    forms = [
        [f"{d.year}" for d in dates],
        [f"{_MONTHS[d.month - 1]}{NBSP}{d:%Y}" for d in dates],
        [_day(d) if one_year else f"{_day(d)}{NBSP}{d:%Y}" for d in dates],
        [f"{d:%H:%M}" if one_day else f"{_day(d)}{NBSP}{d:%H:%M}" for d in dates],
    ]
    return next((form for form in forms if len(set(form)) == len(form)), [f"{d:%H:%M:%S}" for d in dates])


def elapsed(times: Sequence[float]) -> list[str]:
    """Labels of an axis that counts from its first time.

    >>> elapsed([5.0, 7_205.0])
    ['0', '2 hours']
    """
    return ["0", *(span(t - times[0]) for t in times[1:])]


def _day(d: datetime) -> str:
    return f"{d.day}{NBSP}{_MONTHS[d.month - 1]}"
