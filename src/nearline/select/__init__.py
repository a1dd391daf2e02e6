"""Which recorded examples deserve a backward pass, and with what weight: NumPy in, rows and weights out."""

from nearline.select._delay import immediate_negative_weights, maturity_of
from nearline.select._inclusion import mixed, water_fill
from nearline.select._log import choose, log_table, replay
from nearline.select._policy import Policy, from_settings
from nearline.select._pricing import price_binary, price_classes, price_regression, price_top_k
from nearline.select._record import RECORD, Flag, pack, record_type, to_bytes, unpack
from nearline.select._records import Records
from nearline.select._registry import by_name, names, rule_class
from nearline.select._rule import Rule
from nearline.select._samplers import cube, pivotal, poisson, systematic
from nearline.select._scores import Scores
from nearline.select._selection import Cost, Report, Selection, Selector, rows_of
from nearline.select._sketch import signs, sketch_class_gradients, sketch_gradients, sketch_inputs
from nearline.select._state import SelectorState
from nearline.select._trim import Trimmed, trimmed_by_mad
from nearline.select._trust import kappa
from nearline.select._uniform import undo_label_rates

__all__ = [
    "RECORD",
    "Cost",
    "Flag",
    "Policy",
    "Records",
    "Report",
    "Rule",
    "Scores",
    "Selection",
    "Selector",
    "SelectorState",
    "Trimmed",
    "by_name",
    "choose",
    "cube",
    "from_settings",
    "immediate_negative_weights",
    "kappa",
    "log_table",
    "maturity_of",
    "mixed",
    "names",
    "pack",
    "pivotal",
    "poisson",
    "price_binary",
    "price_classes",
    "price_regression",
    "price_top_k",
    "record_type",
    "replay",
    "rows_of",
    "rule_class",
    "signs",
    "sketch_class_gradients",
    "sketch_gradients",
    "sketch_inputs",
    "systematic",
    "to_bytes",
    "trimmed_by_mad",
    "undo_label_rates",
    "unpack",
    "water_fill",
]
