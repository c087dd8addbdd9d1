"""Sixteen numbers at a time, spelt out: what a kernel uses where the compiler does not find the vector loop by itself.

The body of an intrinsic is written with `Lanes`, whose operators emit one vector instruction each while the kernel is
compiled; a machine without 512-bit vectors splits them. Loads and stores name an array, flat and contiguous, and an offset.

    @intrinsic
    def scale(typing_context, array, offset, factor):
        def emit(context, builder, signature, arguments):
            vector = Vector(context, builder)
            at = vector.pointer(signature.args[0], arguments[0], arguments[1])
            vector.store(vector.floats(at) * vector.all(arguments[2]), at)
            return context.get_dummy_value()

        return types.void(array, types.intp, types.float32), emit
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils
from numba.np import arrayobj

LANES = 16
FLAGS = ("contract", "arcp", "nsz", "nnan")
FLOAT, INT = ir.FloatType(), ir.IntType(32)
FLOATS, INTS = ir.VectorType(FLOAT, LANES), ir.VectorType(INT, LANES)


class Lanes:
    """`LANES` float32 or 32-bit integers in a register. Shifts to the right are logical."""

    def __init__(self, vector: Vector, value: ir.Value) -> None:
        self.vector, self.value = vector, value

    @property
    def _is_float(self) -> bool:
        return self.value.type == FLOATS

    def _with(self, other: Lanes | float | int, on_floats: str, on_ints: str = "") -> Lanes:
        other = other if isinstance(other, Lanes) else self.vector.constant(other, self._is_float)
        builder = self.vector.builder
        if self._is_float:
            return Lanes(self.vector, getattr(builder, on_floats)(self.value, other.value, flags=FLAGS))
        return Lanes(self.vector, getattr(builder, on_ints)(self.value, other.value))

    def __add__(self, other: Lanes | float | int) -> Lanes:
        return self._with(other, "fadd", "add")

    def __sub__(self, other: Lanes | float | int) -> Lanes:
        return self._with(other, "fsub", "sub")

    def __mul__(self, other: Lanes | float | int) -> Lanes:
        return self._with(other, "fmul", "mul")

    def __truediv__(self, other: Lanes | float) -> Lanes:
        return self._with(other, "fdiv")

    def __and__(self, other: Lanes | int) -> Lanes:
        return self._with(other, "", "and_")

    def __or__(self, other: Lanes | int) -> Lanes:
        return self._with(other, "", "or_")

    def __xor__(self, other: Lanes | int) -> Lanes:
        return self._with(other, "", "xor")

    def __lshift__(self, other: int) -> Lanes:
        return self._with(other, "", "shl")

    def __rshift__(self, other: int) -> Lanes:
        return self._with(other, "", "lshr")

    def shifted_signed(self, by: int) -> Lanes:
        """Shift to the right that keeps the sign."""
        return self._with(by, "", "ashr")

    def rotated(self, by: int) -> Lanes:
        return (self << by) | (self >> (32 - by))

    def __gt__(self, other: Lanes | float | int) -> Lanes:
        """A mask: one bit a lane; integers compare without sign."""
        other = other if isinstance(other, Lanes) else self.vector.constant(other, self._is_float)
        builder = self.vector.builder
        if self._is_float:
            return Lanes(self.vector, builder.fcmp_ordered(">", self.value, other.value, flags=FLAGS))
        return Lanes(self.vector, builder.icmp_unsigned(">", self.value, other.value))

    def choose(self, yes: Lanes, no: Lanes) -> Lanes:
        """Where this mask is set, `yes`, else `no`."""
        return Lanes(self.vector, self.vector.builder.select(self.value, yes.value, no.value))

    def count(self) -> ir.Value:
        """In how many lanes a mask is set (64-bit integer)."""
        builder = self.vector.builder
        return builder.zext(builder.ctpop(builder.bitcast(self.value, ir.IntType(LANES))), ir.IntType(64))

    def bits(self) -> Lanes:
        """Number of bits set in each integer."""
        return self.vector.call("llvm.ctpop.v16i32", INTS, self)

    def sqrt(self) -> Lanes:
        return self.vector.call("llvm.sqrt.v16f32", FLOATS, self)

    def abs(self) -> Lanes:
        return self.vector.call("llvm.fabs.v16f32", FLOATS, self)

    def minimum(self, other: Lanes) -> Lanes:
        return (other > self).choose(self, other)

    def maximum(self, other: Lanes) -> Lanes:
        return (self > other).choose(self, other)

    def float(self) -> Lanes:
        """Signed integers as numbers."""
        return Lanes(self.vector, self.vector.builder.sitofp(self.value, FLOATS))

    def int(self) -> Lanes:
        """Numbers cut to integers."""
        return Lanes(self.vector, self.vector.builder.fptosi(self.value, INTS))

    def as_int(self) -> Lanes:
        return Lanes(self.vector, self.vector.builder.bitcast(self.value, INTS))

    def as_float(self) -> Lanes:
        return Lanes(self.vector, self.vector.builder.bitcast(self.value, FLOATS))


class Vector:
    """Makes `Lanes` where a kernel is being compiled."""

    def __init__(self, context: object, builder: ir.IRBuilder) -> None:
        self.context, self.builder = context, builder

    def constant(self, number: float | int, is_float: bool) -> Lanes:
        kind, element = (FLOATS, FLOAT) if is_float else (INTS, INT)
        return Lanes(self, kind([element(number)] * LANES))

    def integer(self, number: int) -> Lanes:
        return self.constant(number & 0xFFFFFFFF, False)

    def count(self) -> Lanes:
        """0, 1, … 15."""
        return Lanes(self, INTS([INT(i) for i in range(LANES)]))

    def all(self, scalar: ir.Value) -> Lanes:
        """A float32 or 32-bit integer of the kernel in every lane."""
        kind = FLOATS if scalar.type == FLOAT else INTS
        one = self.builder.insert_element(kind(ir.Undefined), scalar, INT(0))
        return Lanes(self, self.builder.shuffle_vector(one, kind(ir.Undefined), INTS([INT(0)] * LANES)))

    def polynomial(self, coefficients: tuple[float, ...], x: Lanes) -> Lanes:
        """c0 + c1 x + c2 x² + …"""
        *lower, highest = coefficients
        total = self.constant(highest, True)
        for coefficient in reversed(lower):
            total = total * x + coefficient
        return total

    def call(self, name: str, kind: ir.Type, *arguments: Lanes) -> Lanes:
        kinds = [argument.value.type for argument in arguments]
        function = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(kind, kinds), name)
        return Lanes(self, self.builder.call(function, [argument.value for argument in arguments]))

    def pointer(self, kind: object, array: ir.Value, offset: ir.Value) -> ir.Value:
        """Where element `offset` of a flat array of 32-bit elements lies."""
        data = arrayobj.make_array(kind)(self.context, self.builder, array).data
        return self.builder.gep(self.builder.bitcast(data, INT.as_pointer()), [offset], source_etype=INT)

    def _at(self, pointer: ir.Value, distance: int, kind: ir.Type) -> ir.Value:
        moved = self.builder.gep(pointer, [ir.IntType(64)(distance)], source_etype=INT)
        return self.builder.bitcast(moved, kind.as_pointer())

    def floats(self, pointer: ir.Value, distance: int = 0) -> Lanes:
        """`LANES` float32 that begin `distance` elements after `pointer`."""
        return Lanes(self, self.builder.load(self._at(pointer, distance, FLOATS), align=4))

    def integers(self, pointer: ir.Value, distance: int = 0) -> Lanes:
        return Lanes(self, self.builder.load(self._at(pointer, distance, INTS), align=4))

    def spread(self, mask: Lanes, pointer: ir.Value) -> Lanes:
        """Consecutive float32 from `pointer` on, one for every lane where `mask` is set; 0 elsewhere."""
        kinds = [FLOAT.as_pointer(), mask.value.type, FLOATS]
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(FLOATS, kinds), "llvm.masked.expandload.v16f32"
        )
        at = self.builder.bitcast(pointer, kinds[0])
        return Lanes(self, self.builder.call(function, [at, mask.value, self.constant(0.0, True).value]))

    def store(self, lanes: Lanes, pointer: ir.Value, distance: int = 0) -> None:
        self.builder.store(lanes.value, self._at(pointer, distance, lanes.value.type), align=4)
