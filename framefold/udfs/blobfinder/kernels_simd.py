"""A numba intrinsic: sums of shifted rows with the sums kept in registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

#: columns and rows of the block of sums that one call makes
LANES, ROWS = 16, 8
_VECTOR = ir.VectorType(ir.FloatType(), LANES)


def _weighted_rows(
    typingctx: Any,
    source: Any,
    start: Any,
    pitch: Any,
    taps: Any,
    weights: Any,
    out: Any,
    at: Any,
    width: Any,
) -> Any:
    """Write ``out[at + r width + x] = sum_t weights[t] source[start + r pitch + taps[t] + x]``.

    For r < `ROWS` and x < `LANES`; `source`, `weights`, `out` are contiguous float32, `taps` int64. Numba's
    own loops keep the sums in memory, because `out` might overlap with `source`: 4x slower.
    """
    flat = (source, taps, weights, out)
    if not all(isinstance(a, types.Array) and a.ndim == 1 and a.layout == "C" for a in flat):
        return None
    index = types.intp
    signature = types.void(source, index, index, taps, weights, out, index, index)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        arrays = {i: context.make_array(sig.args[i])(context, builder, value=args[i]) for i in (0, 3, 4, 5)}
        data, tap, weight, result = (arrays[i].data for i in (0, 3, 4, 5))
        begin, step, at_, width_ = args[1], args[2], args[6], args[7]
        count = builder.extract_value(arrays[3].shape, 0)
        room: Any = cgutils.alloca_once
        acc = [room(builder, _VECTOR) for _ in range(ROWS)]
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        for a in acc:
            builder.store(zero, a)
        with cgutils.for_range(builder, count) as loop:
            where = builder.add(begin, builder.load(builder.gep(tap, [loop.index])))
            w = builder.load(builder.gep(weight, [loop.index]))
            one = builder.insert_element(
                ir.Constant(_VECTOR, ir.Undefined), w, ir.Constant(ir.IntType(32), 0)
            )
            many = builder.shuffle_vector(
                one,
                ir.Constant(_VECTOR, ir.Undefined),
                ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES),
            )
            for r, a in enumerate(acc):
                here = builder.add(where, builder.mul(step, ir.Constant(step.type, r)))
                row = builder.load(builder.bitcast(builder.gep(data, [here]), _VECTOR.as_pointer()), align=4)
                product = builder.fmul(many, row, flags=("fast",))
                builder.store(builder.fadd(builder.load(a), product, flags=("fast",)), a)
        for r, a in enumerate(acc):
            here = builder.add(at_, builder.mul(width_, ir.Constant(width_.type, r)))
            target = builder.bitcast(builder.gep(result, [here]), _VECTOR.as_pointer())
            builder.store(builder.load(a), target, align=4)
        return context.get_dummy_value()

    return signature, codegen


weighted_rows: Any = intrinsic(_weighted_rows)
