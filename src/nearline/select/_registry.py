"""Rules by name, as a configuration file or a selection log writes them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from nearline._errors import ConfigError
from nearline.select._ada import AdaSelection
from nearline.select._backprop import SelectiveBackprop, StaleSelectiveBackprop
from nearline.select._balanced import Cube
from nearline.select._gradmatch import GradMatch
from nearline.select._importance import Importance
from nearline.select._matching import BestOf, Nearest, Stratified, Stride, Swap
from nearline.select._oracles import Dp, Milp
from nearline.select._pps import Pps
from nearline.select._ranks import BiggestK, MinKSgd, RankExponential, RankPower, RhoLoss, SmallestK
from nearline.select._rule import Rule
from nearline.select._uniform import LabelBalanced, Poisson, Uniform, WithReplacement

_RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (
        Uniform, Pps, Swap, Stride, Stratified, BestOf, Nearest, BiggestK, SmallestK, MinKSgd, RankPower,
        RankExponential, LabelBalanced, WithReplacement, Poisson, Dp, Milp, Cube, SelectiveBackprop,
        StaleSelectiveBackprop, Importance, RhoLoss, AdaSelection, GradMatch,
    )
}  # fmt: skip


def names() -> list[str]:
    """The names of all rules, sorted.

    >>> {"pps", "swap", "uniform"} <= set(names())
    True
    """
    return sorted(_RULES)


def rule_class(name: str) -> type[Rule]:
    """The class of a rule: its docstring, its parameters, and whether it is unbiased.

    >>> rule_class("pps").unbiased, rule_class("biggest_k").unbiased
    (True, False)

    Raises
    ------
    ConfigError
        No rule has that name.
    """
    if name not in _RULES:
        raise ConfigError(f"no rule is called {name!r}; there are {', '.join(names())}")
    return _RULES[name]


def by_name(name: str, **parameters: Any) -> Rule:
    """The rule called `name`.

    >>> by_name("pps", floor=0.1, sampler="pivotal").floor
    0.1

    Raises
    ------
    ConfigError
        No rule has that name, or it has no such parameter.
    """
    kind = rule_class(name)
    allowed = {f.name for f in fields(kind)}
    if unknown := sorted(set(parameters) - allowed):
        has = ", ".join(sorted(allowed)) or "none"
        raise ConfigError(f"rule {name!r} has no parameter {unknown[0]!r}; it has {has}")
    return kind(**parameters)
