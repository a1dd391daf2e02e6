"""Which recorded examples deserve a backward pass, and with what weight: NumPy in, rows and weights out."""

from nearline.select._inclusion import mixed, water_fill
from nearline.select._registry import by_name, names, rule_class
from nearline.select._rule import Rule
from nearline.select._samplers import cube, pivotal, poisson, systematic
from nearline.select._scores import Scores
from nearline.select._selection import Cost, Report, Selection, Selector, rows_of
from nearline.select._state import SelectorState
from nearline.select._trust import kappa
from nearline.select._uniform import undo_label_rates

__all__ = [
    "Cost",
    "Report",
    "Rule",
    "Scores",
    "Selection",
    "Selector",
    "SelectorState",
    "by_name",
    "cube",
    "kappa",
    "mixed",
    "names",
    "pivotal",
    "poisson",
    "rows_of",
    "rule_class",
    "systematic",
    "undo_label_rates",
    "water_fill",
]
