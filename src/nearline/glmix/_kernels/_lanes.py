"""Four float64 numbers at a time, by address: the vocabulary of the kernels' inner loops.

LLVM's own vectoriser leaves loops of a few dozen numbers scalar and guards each with aliasing checks. These operations
say what is meant: `take` four numbers, multiply and add, `put` them back. float32 storage is widened on the way in and
rounded on the way out. A machine without four-wide registers gets two twos or four ones.

What a number comes to does not depend on whether it is one of four or on its own: `fused` is `fma` of scalars, every
sum puts its j-th term into lane j mod 4, and `total` adds the lanes as `totals` does. So zeros at the end of a vector
change no bit of what comes before them, and a posterior is the same whenever dimensions were appended to it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from nearline.glmix._kernels._linalg import LEAF, OPTIONS

# Numba's own annotations do not describe calling types.
types: Any = numba.types

LANES = 4
LINE = 64
"""Bytes of a cache line."""

# For functions that only kernels call: no Python entry is compiled; INLINE, merged into each caller before typing.
# ARRAYS, where arrays are made.
_INNER_ONLY = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
INNER: Any = LEAF | _INNER_ONLY
INLINE: Any = INNER | {"inline": "always"}
ARRAYS: Any = OPTIONS | _INNER_ONLY | {"_nrt": True}

_DOUBLE, _INT, _BYTES = ir.DoubleType(), ir.IntType(32), ir.IntType(8).as_pointer()
_VECTOR = ir.VectorType(_DOUBLE, LANES)
_UNDEFINED = ir.Constant(_VECTOR, ir.Undefined)
# One rounding by name where the machine can, else two: never the compiler's choice from place to place.
_ONE_ROUNDING = platform.machine() in ("arm64", "aarch64") or binding.get_host_cpu_features().get("fma", False)
FUSED = "llvm.fma" if _ONE_ROUNDING else "llvm.fmuladd"

Generated = tuple[Any, Callable[..., Any]]


def _intrinsic(typed: Callable[..., Any]) -> Any:
    # Untyped on purpose: numba calls what it returns with other arguments than the function takes.
    return intrinsic(typed)


class LanesType(types.Type):  # type: ignore[misc]
    """Numba's type of four float64 numbers in a register."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


LANES_TYPE = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)  # type: ignore[no-untyped-call]


def _address(context: Any, builder: Any, pointer: Any, arguments: Any) -> tuple[Any, Any, int]:
    """(pointer to four stored numbers, their type, their alignment)."""
    vector = ir.VectorType(context.get_value_type(pointer.dtype), LANES)
    first = builder.gep(arguments[0], [arguments[1]])
    return builder.bitcast(first, vector.as_pointer()), vector, pointer.dtype.bitwidth // 8


def _shuffle(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT, len(lanes)), lanes))


def _call(builder: Any, name: str, result: Any, arguments: Any) -> Any:
    kind = ir.FunctionType(result, [a.type for a in arguments])
    insert: Any = cgutils.get_or_insert_function
    return builder.call(insert(builder.module, kind, name), arguments)


def _cast_to(kind: Any) -> Any:
    """An intrinsic from an integer address to a numba type that is a pointer underneath."""

    def typed(typing_context: Any, address: Any) -> Generated:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(kind))

        return kind(types.int64), generate

    return _intrinsic(typed)


floats, float32s, ints, int32s, bytes_ = (
    _cast_to(types.CPointer(dtype)) for dtype in (types.float64, types.float32, types.int64, types.int32, types.uint8)
)


def record_at(dtype: Any) -> Any:
    """An intrinsic from an integer address to the structured record of `dtype` there."""
    return _cast_to(numba.from_dtype(dtype))


@_intrinsic
def pointer(typing_context: Any, address: Any, like: Any) -> Generated:
    """Pointer at an integer address to elements of the dtype of `like`, an array or another pointer."""
    kind = types.CPointer(like.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(types.int64, like), generate


@_intrinsic
def take(typing_context: Any, p: Any, k: Any) -> Generated:
    """The four numbers p[k : k + 4]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, vector, align = _address(context, builder, p, arguments)
        stored = builder.load(address, align=align)
        return stored if vector == _VECTOR else builder.fpext(stored, _VECTOR)

    return LANES_TYPE(p, types.int64), generate


@_intrinsic
def put(typing_context: Any, p: Any, k: Any, value: Any) -> Generated:
    """p[k : k + 4] = value."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, vector, align = _address(context, builder, p, arguments)
        stored = arguments[2] if vector == _VECTOR else builder.fptrunc(arguments[2], vector)
        builder.store(stored, address, align=align)
        return context.get_dummy_value()

    return types.void(p, types.int64, LANES_TYPE), generate


@_intrinsic
def pack(typing_context: Any, a: Any, b: Any, c: Any, d: Any) -> Generated:
    """Four scalars as lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out = _UNDEFINED
        for lane, value in enumerate(arguments):
            out = builder.insert_element(out, value, ir.Constant(_INT, lane))
        return out

    return LANES_TYPE(*[types.float64] * LANES), generate


@_intrinsic
def first_lanes(typing_context: Any, a: Any, n: Any) -> Generated | None:
    """The first n lanes and zeros; n is a literal."""
    if not isinstance(n, types.IntegerLiteral):
        return None
    kept = [lane if lane < n.literal_value else LANES for lane in range(LANES)]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _shuffle(builder, arguments[0], ir.Constant(_VECTOR, [0.0] * LANES), kept)

    return LANES_TYPE(a, n), generate


@_intrinsic
def spread(typing_context: Any, x: Any) -> Generated:
    """One scalar in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = builder.insert_element(_UNDEFINED, arguments[0], ir.Constant(_INT, 0))
        return _shuffle(builder, first, _UNDEFINED, [0] * LANES)

    return LANES_TYPE(types.float64), generate


@_intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Generated:
    """Lane by lane, a * b + c."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, f"{FUSED}.v4f64", _VECTOR, arguments)

    return LANES_TYPE(*[LANES_TYPE] * 3), generate


@_intrinsic
def fused(typing_context: Any, a: Any, b: Any, c: Any) -> Generated:
    """Scalar a * b + c, rounded as a lane of `fma` is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, f"{FUSED}.f64", _DOUBLE, arguments)

    return types.float64(*[types.float64] * 3), generate


@_intrinsic
def take_first(typing_context: Any, p: Any, k: Any, n: Any) -> Generated:
    """The numbers p[k : k + n] and zeros, four in all; nothing beyond them is read."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, vector, align = _address(context, builder, p, arguments)
        number = ir.IntType(64)
        count = builder.insert_element(ir.Constant(ir.VectorType(number, LANES), ir.Undefined), arguments[2], _INT(0))
        mask = builder.icmp_signed(
            "<",
            ir.Constant(ir.VectorType(number, LANES), list(range(LANES))),
            _shuffle(builder, count, count, [0] * LANES),
        )
        name = f"llvm.masked.load.v4f{8 * align}.p0"
        zeros = ir.Constant(vector, [0.0] * LANES)
        stored = _call(builder, name, vector, [address, _INT(align), mask, zeros])
        return stored if vector == _VECTOR else builder.fpext(stored, _VECTOR)

    return LANES_TYPE(p, types.int64, types.int64), generate


@_intrinsic
def totals(typing_context: Any, a: Any, b: Any, c: Any, d: Any) -> Generated:
    """(Σ a, Σ b, Σ c, Σ d): four sums over lanes, as lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def halve(x: Any, y: Any, left: list[int], right: list[int]) -> Any:
            return builder.fadd(_shuffle(builder, x, y, left), _shuffle(builder, x, y, right))

        ab, cd = (halve(x, y, [0, 4, 2, 6], [1, 5, 3, 7]) for x, y in (arguments[:2], arguments[2:]))
        return halve(ab, cd, [0, 1, 4, 5], [2, 3, 6, 7])

    return LANES_TYPE(*[LANES_TYPE] * 4), generate


@_intrinsic
def mirrored(typing_context: Any, a: Any, b: Any, c: Any, d: Any, i: Any) -> Generated | None:
    """Row i, a literal 0, 1 or 2, of the symmetric 4 × 4 block whose lower triangle is that of the rows a, b, c, d."""
    if not isinstance(i, types.IntegerLiteral):
        return None
    row, half = i.literal_value, [2, 3, 6, 7] if i.literal_value == 2 else [0, 1, 4, 5]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = [1, 5, 3, 7] if row == 1 else [0, 4, 2, 6]
        ab, cd = (_shuffle(builder, arguments[k], arguments[k + 1], lanes) for k in (0, 2))
        column = _shuffle(builder, ab, cd, half)
        return _shuffle(builder, column, arguments[row], [k + LANES if k < row else k for k in range(LANES)])

    return LANES_TYPE(a, b, c, d, i), generate


@_intrinsic
def diagonal_of(typing_context: Any, a: Any, b: Any, c: Any, d: Any) -> Generated:
    """(a_0, b_1, c_2, d_3)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        ab = _shuffle(builder, arguments[0], arguments[1], [0, 5, 2, 3])
        cd = _shuffle(builder, arguments[2], arguments[3], [0, 1, 2, 7])
        return _shuffle(builder, ab, cd, [0, 1, 6, 7])

    return LANES_TYPE(*[LANES_TYPE] * 4), generate


@_intrinsic
def unless_positive(typing_context: Any, a: Any) -> Generated:
    """0 where a lane is positive and finite, else 1."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zeros, ones, infinite = (ir.Constant(_VECTOR, [number] * LANES) for number in (0.0, 1.0, float("inf")))
        above = builder.fcmp_ordered(">", arguments[0], zeros)
        below = builder.fcmp_ordered("<", arguments[0], infinite)
        return builder.select(builder.and_(above, below), zeros, ones)

    return LANES_TYPE(a), generate


@_intrinsic
def total(typing_context: Any, a: Any) -> Generated:
    """The sum of the lanes, (a_0 + a_1) + (a_2 + a_3)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        halves = (_shuffle(builder, arguments[0], _UNDEFINED, lanes) for lanes in ([0, 2], [1, 3]))
        pair = builder.fadd(*halves)
        return builder.fadd(*(builder.extract_element(pair, ir.Constant(_INT, lane)) for lane in (0, 1)))

    return types.float64(LANES_TYPE), generate


@_intrinsic
def call(typing_context: Any, function: Any, argument: Any) -> Generated:
    """Call the C function at an address, which takes an int64 and returns nothing."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [arguments[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@_intrinsic
def prefetch(typing_context: Any, address: Any) -> Generated:
    """Start bringing the cache line at an address into the second-level cache; reads and writes nothing."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        read, locality, data = (ir.Constant(_INT, flag) for flag in (0, 2, 1))
        line = builder.inttoptr(arguments[0], _BYTES)
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), [line, read, locality, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate
