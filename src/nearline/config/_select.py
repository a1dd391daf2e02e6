"""A rule of `nearline.select` as `nearline.toml` writes it: `"pps"`, or a table of its name and its parameters.

Parameters are those of the rule's own class, with its types, so that a file and `select.by_name` take the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from nearline._errors import ConfigError
from nearline.config._explain import explain_value, suggestion
from nearline.schema import ColumnKind, Numeric, Vector
from nearline.select import Rule, by_name, rule_class

if TYPE_CHECKING:
    from nearline.config._deep_tables import DeepTable

SKETCH, MOST = 16, 256
"""Length of the gradient sketch where a rule needs one and none is said; the largest that may be."""
PRICED = ("loss", "error", "score", "label", "age", "lag", "sketch", "slice", "slice_error", "leverage")
"""What is known of a row before it is chosen: by the ledger, and by the network's counts."""


def rule(field: str, given: str | Mapping[str, Any]) -> Rule:
    """The rule that a field of `[deep]` names; it must leave the network calibrated, and go by what is recorded.

    Examples
    --------
    >>> rule("select", {"rule": "pps", "floor": 0.1, "sampler": "cube", "balance": ["loss"]}).balance
    ('loss',)
    >>> rule("select", {"rule": "pps", "flor": 0.1})
    Traceback (most recent call last):
        ...
    nearline._errors.ConfigError: [deep.select]: rule 'pps' has no parameter 'flor'; did you mean 'floor'? It is one \
of 'balance', 'by', 'floor', 'leverage', 'mix', 'normalise', 'order', 'sampler', 'trust'

    Raises
    ------
    ConfigError
        Names the field, and what it may be.
    """
    place = f"[deep] {field}" if isinstance(given, str) else f"[deep.{field}]"
    parameters = {} if isinstance(given, str) else _typed(place, given)
    try:
        found = by_name(given if isinstance(given, str) else given["rule"], **parameters)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error
    _require_calibrated(place, found)
    for name in getattr(found, "balance", ()):
        if name not in PRICED:
            raise ConfigError(f"{place} balance: nothing records {name!r} of a prediction; {suggestion(name, PRICED)}")
    return found


def sketch(table: DeepTable) -> int:
    """Length of the gradient sketch that is recorded: what `[deep] sketch` says, else as rules need it.

    Raises
    ------
    ConfigError
        Out of range, or 0 where a rule needs one.
    """
    needing = _needing(table, lambda rule: rule.sketched)
    if table.sketch is None:
        return SKETCH if needing else 0
    if not 0 <= table.sketch <= MOST:
        raise ConfigError(f"[deep] sketch = {table.sketch}: numbers per prediction, between 0 and {MOST}")
    if needing and not table.sketch:
        raise ConfigError(
            f"[deep] sketch = 0: the rule of {needing[0]!r} balances 'sketch'; leave sketch out, or say how long it is"
        )
    return table.sketch


def slices(table: DeepTable, recorded: Sequence[str]) -> str | None:
    """The recorded column whose values are slices: what `[deep] slices` says, where a rule goes by them.

    `trim` goes by slices where there are any.

    Raises
    ------
    ConfigError
        It is absent where a rule needs it, serves nothing, or is not recorded.
    """
    needing, name = _needing(table, lambda rule: rule.sliced), table.slices
    if name is None:
        _require_named("slices", needing, 'the recorded column whose values are slices, as in slices = "user_id"')
        return None
    if not needing and table.trim is None:
        raise ConfigError(
            f'[deep] slices = {name!r}: no rule goes by slices; take order = "slice" or balance = ["slice_error"], or '
            "leave slices out"
        )
    if name not in recorded:
        raise ConfigError(f"[deep] slices = {name!r}: it is not recorded; {suggestion(name, recorded)}")
    return name


def leverage(table: DeepTable, columns: Sequence[str], kinds: Mapping[str, ColumnKind | None]) -> tuple[str, ...]:
    """The columns of the network whose leverage counts: what `[deep] leverage` says, where a rule goes by it.

    Parameters
    ----------
    columns, kinds
        What the network reads, and the kinds of those columns of which they are known.

    Raises
    ------
    ConfigError
        They are absent where a rule needs them, serve nothing, or the network does not read one, or reads it as a
        number.
    """
    needing, names = _needing(table, lambda rule: rule.leveraged), table.leverage or ()
    if not names:
        _require_named("leverage", needing, 'the columns of the network that count, as in leverage = ["movie_id"]')
    elif not needing:
        raise ConfigError(
            f"[deep] leverage = {list(names)}: no rule goes by leverage; give one leverage = true, or leave it out"
        )
    for name in names:
        if name not in columns:
            raise ConfigError(f"[deep] leverage: the network does not read {name!r}; {suggestion(name, columns)}")
        if isinstance(kind := kinds.get(name), Numeric | Vector):
            raise ConfigError(f"[deep] leverage: {_not_embedded(name, kind)}")
    return tuple(dict.fromkeys(names))


def _not_embedded(name: str, kind: Numeric | Vector) -> str:
    said = f"{name!r} is {type(kind).__name__.lower()}: only values that are embedded are seldom or often trained on; "
    also = ", or declare it categorical ([schema.columns])" if isinstance(kind, Numeric) else ""
    return f"{said}leave it out{also}"


def _needing(table: DeepTable, needs: Callable[[Rule], bool]) -> list[str]:
    """The fields of `[deep]` whose rules need something."""
    named = {"select": table.select, "shadow": table.shadow}
    return [field for field, given in named.items() if given is not None and needs(rule(field, given))]


def _require_named(field: str, needing: Sequence[str], what: str) -> None:
    if needing:
        raise ConfigError(f"[deep] {field}: the rule of {needing[0]!r} goes by it; name {what}")


def _typed(place: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a table, in the types of the rule that it names."""
    parameters = dict(given)
    name = parameters.pop("rule", None)
    if not isinstance(name, str):
        raise ConfigError(f'{place} rule: name the rule, as in rule = "pps"')
    try:
        kind = rule_class(name)
    except ConfigError as error:
        raise ConfigError(f"{place} rule: {error}") from error
    hints, allowed = get_type_hints(kind), [field.name for field in fields(kind)]
    for parameter in parameters:
        if parameter not in allowed:
            has = suggestion(parameter, allowed) if allowed else "it has none"
            raise ConfigError(f"{place}: rule {name!r} has no parameter {parameter!r}; {has}")
    return {key: _converted(f"{place} {key}", value, hints[key]) for key, value in parameters.items()}


def _converted(place: str, value: Any, hint: Any) -> Any:
    try:
        return msgspec.convert(value, hint, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{place}: {explain_value(error, value, hint)}") from error


def _require_calibrated(place: str, found: Rule) -> None:
    if not found.unbiased or not getattr(found, "weighted", True):
        raise ConfigError(
            f"{place}: {found} is unweighted: a network trained on its rows alone is not calibrated; take 'pps', or "
            "'uniform' (docs/select.md)"
        )
