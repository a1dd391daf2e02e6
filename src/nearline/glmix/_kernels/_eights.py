"""Eight float64 numbers at a time and their arithmetic: eight small problems solved side by side, compiled.

Lane by lane, no number depends on another, so a problem's bits are the same whichever seven stand beside it. A machine
without eight-wide registers gets two fours. Within their domains `exp` and `log` err by 2 ulps, `log1p` by 2e-15 of
itself.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from nearline.glmix._kernels._lanes import FUSED, INLINE, types

EIGHT = 8

_DOUBLE, _LONG = ir.VectorType(ir.DoubleType(), EIGHT), ir.VectorType(ir.IntType(64), EIGHT)
_INT = ir.IntType(32)
Generated = tuple[Any, Callable[..., Any]]

# e^r = Σ E_j r^j for |r| ≤ ½ log 2, and artanh(s)/s = Σ T_j s^2j for |s| ≤ ⅓, both to 5e-17: interpolated at Chebyshev
# nodes in fifty digits.
_E = (
    1.0, 1.0, 0.5000000000000019, 0.1666666666666668, 0.04166666666648795, 0.008333333333319589, 0.0013888888952352863,
    0.00019841269890076403, 2.4801485441561313e-05, 2.755724088722987e-06, 2.763265472252779e-07,
    2.5110049204818658e-08,
)  # fmt: skip
_T = (
    1.0, 0.33333333333341364, 0.1999999999762358, 0.14285714557873128, 0.11111095327890122, 0.09091432784321285,
    0.07681790845659, 0.06796102310205075, 0.04938098798714646, 0.08895248718595372,
)  # fmt: skip
E0, E1, E2, E3, E4, E5, E6, E7, E8, E9, E10, E11 = _E
T0, T1, T2, T3, T4, T5, T6, T7, T8, T9 = _T
# log 2 in two parts; whole multiples of the first are exact.
PER_LOG_2, LOG_2, LOG_2_REST = 1.4426950408889634, 0.6931471805598903, 5.497923018708371e-14
LEAST = -708.0
"""Below it `exp` stays e^−708."""


def _intrinsic(typed: Callable[..., Any]) -> Any:
    return intrinsic(typed)


class EightType(types.Type):  # type: ignore[misc]
    """Numba's type of eight float64 numbers in registers."""

    def __init__(self) -> None:
        super().__init__(name="Eight")


EIGHT_TYPE = EightType()


@register_model(EightType)
class _EightModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _DOUBLE)  # type: ignore[no-untyped-call]


def _call(builder: Any, name: str, *arguments: Any) -> Any:
    kind = ir.FunctionType(_DOUBLE, [a.type for a in arguments])
    insert: Any = cgutils.get_or_insert_function
    return builder.call(insert(builder.module, kind, f"llvm.{name}.v{EIGHT}f64"), arguments)


def _arithmetic(function: Any, build: str) -> None:
    """Let two eights be added, subtracted, multiplied and divided by the operators of their numbers."""

    def typer(context: Any) -> Any:
        def typed(a: Any, b: Any) -> Any:
            return EIGHT_TYPE if isinstance(a, EightType) and isinstance(b, EightType) else None

        return typed

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, build)(*arguments)

    type_callable(function)(typer)
    lower_builtin(function, EightType, EightType)(lower)  # type: ignore[no-untyped-call]


for _function, _build in (
    (operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv"),
):  # fmt: skip
    _arithmetic(_function, _build)


def _elementary(name: str, count: int) -> Any:
    """An intrinsic for LLVM's function of `count` eights."""

    def one(typing_context: Any, a: Any) -> Generated:
        return EIGHT_TYPE(a), lambda context, builder, signature, arguments: _call(builder, name, *arguments)

    def two(typing_context: Any, a: Any, b: Any) -> Generated:
        return EIGHT_TYPE(a, b), lambda context, builder, signature, arguments: _call(builder, name, *arguments)

    return _intrinsic(one if count == 1 else two)


root, size, nearest, least = (
    _elementary(name, count) for name, count in (("sqrt", 1), ("fabs", 1), ("rint", 1), ("minnum", 2))
)
with_sign = _elementary("copysign", 2)


def _where(name: str) -> Any:
    """An intrinsic for x where a compares so with b, else y; a comparison with NaN is false."""

    def typed(typing_context: Any, a: Any, b: Any, x: Any, y: Any) -> Generated:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.select(builder.fcmp_ordered(name, arguments[0], arguments[1]), arguments[2], arguments[3])

        return EIGHT_TYPE(a, b, x, y), generate

    return _intrinsic(typed)


where_less, where_at_most = _where("<"), _where("<=")


@_intrinsic
def eight(typing_context: Any, x: Any) -> Generated:
    """One scalar in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = builder.insert_element(ir.Constant(_DOUBLE, ir.Undefined), arguments[0], ir.Constant(_INT, 0))
        return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_INT, EIGHT), [0] * EIGHT))

    return EIGHT_TYPE(types.float64), generate


def _pointed(builder: Any, arguments: Any) -> Any:
    return builder.bitcast(builder.gep(arguments[0], [arguments[1]]), _DOUBLE.as_pointer())


@_intrinsic
def take_eight(typing_context: Any, p: Any, k: Any) -> Generated:
    """The eight float64 numbers p[k : k + 8]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointed(builder, arguments), align=8)

    return EIGHT_TYPE(p, types.int64), generate


@_intrinsic
def put_eight(typing_context: Any, p: Any, k: Any, value: Any) -> Generated:
    """p[k : k + 8] = value."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _pointed(builder, arguments), align=8)
        return context.get_dummy_value()

    return types.void(p, types.int64, EIGHT_TYPE), generate


@_intrinsic
def any_positive(typing_context: Any, a: Any) -> Generated:
    """Whether any lane is above zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        above = builder.fcmp_ordered(">", arguments[0], ir.Constant(_DOUBLE, [0.0] * EIGHT))
        return builder.icmp_unsigned("!=", builder.bitcast(above, ir.IntType(EIGHT)), ir.IntType(EIGHT)(0))

    return types.boolean(a), generate


def _bits(builder: Any, value: int) -> Any:
    return ir.Constant(_LONG, [value] * EIGHT)


@_intrinsic
def two_to(typing_context: Any, n: Any) -> Generated:
    """2ⁿ for whole −1022 ≤ n ≤ 1023."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # Adding 1.5 · 2⁵² leaves a small whole number in the low bits.
        moved = builder.fadd(arguments[0], ir.Constant(_DOUBLE, [6755399441055744.0 + 1023.0] * EIGHT))
        exponent = builder.shl(builder.bitcast(moved, _LONG), _bits(builder, 52))
        return builder.bitcast(exponent, _DOUBLE)

    return EIGHT_TYPE(n), generate


@_intrinsic
def binary_exponent(typing_context: Any, z: Any) -> Generated:
    """The whole k with z 2^−k in [√½, √2), for a normal z > 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        above = builder.sub(builder.bitcast(arguments[0], _LONG), _bits(builder, 0x3FE6A09E667F3BCD))
        return builder.sitofp(builder.ashr(above, _bits(builder, 52)), _DOUBLE)

    return EIGHT_TYPE(z), generate


@_intrinsic
def plus_times(typing_context: Any, a: Any, b: Any, c: Any) -> Generated:
    """A + b * c in one rounding where the machine can."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, c = arguments
        return _call(builder, FUSED.removeprefix("llvm."), b, c, a)

    return EIGHT_TYPE(a, b, c), generate


@njit(**INLINE)
def line(a: float, b: float, x: Any) -> Any:
    """A + b x."""
    return plus_times(eight(a), eight(b), x)


@njit(**INLINE)
def exp(x: Any) -> Any:
    """e^x for −708 ≤ x ≤ 709; below, e^−708."""
    x = where_less(x, eight(LEAST), eight(LEAST), x)
    n = nearest(x * eight(PER_LOG_2))
    r = plus_times(plus_times(x, n, eight(-LOG_2)), n, eight(-LOG_2_REST))
    r2 = r * r
    r4 = r2 * r2
    low = plus_times(line(E0, E1, r), r2, line(E2, E3, r))
    middle = plus_times(line(E4, E5, r), r2, line(E6, E7, r))
    high = plus_times(line(E8, E9, r), r2, line(E10, E11, r))
    return plus_times(low, r4, plus_times(middle, r4, high)) * two_to(n)


@njit(**INLINE)
def twice_artanh(s: Any) -> Any:
    """2 artanh(s) for |s| ≤ ⅓."""
    z = s * s
    z2 = z * z
    z4 = z2 * z2
    low = plus_times(line(T0, T1, z), z2, line(T2, T3, z))
    high = plus_times(line(T4, T5, z), z2, line(T6, T7, z))
    return (s + s) * plus_times(low, z4, plus_times(high, z4, line(T8, T9, z)))


@njit(**INLINE)
def log1p(x: Any) -> Any:
    """log(1 + x) for 0 ≤ x ≤ 1."""
    return twice_artanh(x / (eight(2.0) + x))


@njit(**INLINE)
def log(z: Any) -> Any:
    """Log z for a normal z > 0."""
    k = binary_exponent(z)
    m = z * two_to(eight(0.0) - k)
    return plus_times(twice_artanh((m - eight(1.0)) / (m + eight(1.0))), k, eight(LOG_2 + LOG_2_REST))
