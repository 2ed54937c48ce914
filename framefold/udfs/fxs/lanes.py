"""Sixteen frames side by side in one vector register: the two loops that regridding spends its time in."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils as _cgutils
from numba.core import types
from numba.extending import intrinsic

LANES = 16
cgutils: Any = _cgutils  # has no types


def _pointer(context: Any, builder: Any, sig: Any, args: Any, i: int) -> Any:
    """Return the data pointer of the array argument `i`."""
    return context.make_array(sig.args[i])(context, builder, args[i]).data


def _at(builder: Any, pointer: Any, index: Any, vector: Any) -> Any:
    """Return the address of element `index` as a pointer to `vector`."""
    return builder.bitcast(builder.gep(pointer, [index]), vector.as_pointer())


def _entry(builder: Any, table: Any, i: int) -> Any:
    """Return entry `i` of a table."""
    return builder.load(builder.gep(table, [ir.Constant(ir.IntType(32), i)]))


def _as_float(builder: Any, value: Any, kind: Any) -> Any:
    """Convert a vector of `kind` to float32."""
    wide = ir.VectorType(ir.FloatType(), LANES)
    if kind == types.float32:
        return value
    if isinstance(kind, types.Float):
        return builder.fptrunc(value, wide)
    return builder.sitofp(value, wide) if kind.signed else builder.uitofp(value, wide)


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose 16 vectors of 16 floats in four rounds of interleaving."""
    low = [v for i in range(LANES // 2) for v in (i, LANES + i)]
    high = [v + LANES // 2 for v in low]
    mask = ir.VectorType(ir.IntType(32), LANES)
    for _ in range(4):
        half = LANES // 2
        mixed = []
        for i in range(half):
            a, b = rows[i], rows[i + half]
            mixed += [builder.shuffle_vector(a, b, ir.Constant(mask, low)),
                      builder.shuffle_vector(a, b, ir.Constant(mask, high))]  # fmt: skip
        rows = mixed
    return rows


def _transpose16(
    typing_context: Any, source: Any, start: Any, offsets: Any, out: Any, at: Any, out_offsets: Any
) -> Any:
    """Copy 16 x 16 elements transposed.

    ``out[at + out_offsets[j] + i] = float32(source[start + offsets[i] + j])``: flat arrays, `source` of
    any real type and `out` of float32, each with a start and 16 offsets of rows (int64).
    """
    sig = types.void(source, types.intp, offsets, out, types.intp, out_offsets)
    kind = source.dtype

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data, table, target, out_table = (_pointer(context, builder, sig, args, i) for i in (0, 2, 3, 5))
        vector = ir.VectorType(context.get_data_type(kind), LANES)
        wide = ir.VectorType(ir.FloatType(), LANES)
        rows = []
        for i in range(LANES):
            index = builder.add(args[1], _entry(builder, table, i))
            row = builder.load(_at(builder, data, index, vector), align=kind.bitwidth // 8)
            rows.append(_as_float(builder, row, kind))
        for j, row in enumerate(_transposed(builder, rows)):
            index = builder.add(args[4], _entry(builder, out_table, j))
            builder.store(row, _at(builder, target, index, wide), align=4)
        return context.get_dummy_value()

    return sig, codegen


def _add_products16(
    typing_context: Any, weights: Any, rows: Any, begin: Any, end: Any, source: Any, out: Any, at: Any
) -> Any:
    """Add a weighted sum of rows: ``out[at:at+16] += sum_e weights[e] * source[16*rows[e]:][:16]``.

    `weights` is float32, `rows` an integer array, ``begin <= e < end``; `source` and `out` are flat float32.
    """
    sig = types.void(weights, rows, types.intp, types.intp, source, out, types.intp)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values, indices, data, target = (_pointer(context, builder, sig, args, i) for i in (0, 1, 4, 5))
        size = args[2].type
        wide = ir.VectorType(ir.FloatType(), LANES)
        where = _at(builder, target, args[6], wide)
        total = cgutils.alloca_once(builder, wide)
        builder.store(builder.load(where, align=4), total)
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(wide, [wide] * 3), f"llvm.fmuladd.v{LANES}f32"
        )
        empty = ir.Constant(wide, ir.Undefined)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        with cgutils.for_range_slice(builder, args[2], args[3], ir.Constant(size, 1), size) as (e, _):
            weight = builder.load(builder.gep(values, [e]))
            spread = builder.insert_element(empty, weight, ir.Constant(ir.IntType(32), 0))
            spread = builder.shuffle_vector(spread, empty, zeros)
            row = builder.load(builder.gep(indices, [e]))
            row = builder.zext(row, size) if row.type.width < size.width else row
            index = builder.mul(row, ir.Constant(size, LANES))
            product = builder.call(
                fma, [spread, builder.load(_at(builder, data, index, wide), align=4), builder.load(total)]
            )
            builder.store(product, total)
        builder.store(builder.load(total), where, align=4)
        return context.get_dummy_value()

    return sig, codegen


# compiled code calls them without the typing context
transpose16: Any = intrinsic(_transpose16)
add_products16: Any = intrinsic(_add_products16)
