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
FLOATS, INTS, MASK = (ir.VectorType(kind, LANES) for kind in (FLOAT, INT, ir.IntType(1)))


class Lanes:
    """Float32 or 32-bit integers, `LANES` in each of a `Vector`'s registers. Shifts to the right are logical."""

    def __init__(self, vector: Vector, value: ir.Value) -> None:
        self.vector, self.value = vector, value

    @property
    def _is_float(self) -> bool:
        return self.value.type == self.vector.float_kind

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

    def as_bits(self) -> ir.Value:
        """A mask as bits of a 64-bit integer of the kernel."""
        builder = self.vector.builder
        return builder.zext(builder.bitcast(self.value, ir.IntType(self.vector.lanes)), ir.IntType(64))

    def bits(self) -> Lanes:
        """Number of bits set in each integer."""
        return self.vector.call(f"llvm.ctpop.v{self.vector.lanes}i32", self.vector.int_kind, self)

    def sqrt(self) -> Lanes:
        return self.vector.call(f"llvm.sqrt.v{self.vector.lanes}f32", self.vector.float_kind, self)

    def abs(self) -> Lanes:
        return self.vector.call(f"llvm.fabs.v{self.vector.lanes}f32", self.vector.float_kind, self)

    def minimum(self, other: Lanes) -> Lanes:
        return (other > self).choose(self, other)

    def maximum(self, other: Lanes) -> Lanes:
        return (self > other).choose(self, other)

    def float(self) -> Lanes:
        """Signed integers as numbers."""
        return Lanes(self.vector, self.vector.builder.sitofp(self.value, self.vector.float_kind))

    def int(self) -> Lanes:
        """Numbers cut to integers."""
        return Lanes(self.vector, self.vector.builder.fptosi(self.value, self.vector.int_kind))

    def as_int(self) -> Lanes:
        return Lanes(self.vector, self.vector.builder.bitcast(self.value, self.vector.int_kind))

    def as_float(self) -> Lanes:
        return Lanes(self.vector, self.vector.builder.bitcast(self.value, self.vector.float_kind))


class Vector:
    """Makes `Lanes` where a kernel is being compiled.

    With several registers every operation is done on one after the other, so that none waits for its own last result.
    A pointer is then a tuple with one pointer for each register.
    """

    def __init__(self, context: object, builder: ir.IRBuilder, registers: int = 1) -> None:
        self.context, self.builder, self.registers = context, builder, registers
        self.lanes = registers * LANES
        self.float_kind, self.int_kind = ir.VectorType(FLOAT, self.lanes), ir.VectorType(INT, self.lanes)

    def constant(self, number: float | int, is_float: bool) -> Lanes:
        kind, element = (self.float_kind, FLOAT) if is_float else (self.int_kind, INT)
        return Lanes(self, kind([element(number)] * self.lanes))

    def integer(self, number: int) -> Lanes:
        return self.constant(number & 0xFFFFFFFF, False)

    def count(self) -> Lanes:
        """0, 1, … 15."""
        return Lanes(self, self.int_kind([INT(i) for i in range(self.lanes)]))

    def all(self, scalar: ir.Value) -> Lanes:
        """A float32 or 32-bit integer of the kernel in every lane."""
        kind = self.float_kind if scalar.type == FLOAT else self.int_kind
        one = self.builder.insert_element(kind(ir.Undefined), scalar, INT(0))
        return Lanes(self, self._lanes_of(one, [0] * self.lanes))

    def mask(self, *bits: ir.Value) -> Lanes:
        """The mask of one integer a register, whose lowest bits `Lanes.as_bits` gave."""
        parts = [self.builder.bitcast(self.builder.trunc(one, ir.IntType(LANES)), MASK) for one in bits]
        return self._joined(parts)

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

    def pointer(self, kind: object, array: ir.Value, *offsets: ir.Value) -> tuple[ir.Value, ...]:
        """Where element `offset` of a flat array of 32-bit elements lies, for every register."""
        data = arrayobj.make_array(kind)(self.context, self.builder, array).data
        data = self.builder.bitcast(data, INT.as_pointer())
        return tuple(self.builder.gep(data, [offset], source_etype=INT) for offset in offsets)

    def floats(self, pointer: tuple[ir.Value, ...], distance: int = 0) -> Lanes:
        """`LANES` float32 that begin `distance` elements after `pointer`, for every register."""
        return self._joined([self.builder.load(at, align=4) for at in self._at(pointer, distance, FLOATS)])

    def integers(self, pointer: tuple[ir.Value, ...], distance: int = 0) -> Lanes:
        return self._joined([self.builder.load(at, align=4) for at in self._at(pointer, distance, INTS)])

    def spread(self, mask: Lanes, pointer: tuple[ir.Value, ...]) -> Lanes:
        """Consecutive float32 from `pointer` on, one for every lane where `mask` is set; 0 elsewhere."""
        zero = FLOATS([FLOAT(0)] * LANES)
        kinds = [FLOAT.as_pointer(), MASK, FLOATS]
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(FLOATS, kinds), "llvm.masked.expandload.v16f32"
        )
        ats = [self.builder.bitcast(at, kinds[0]) for at in pointer]
        parts = zip(ats, self._parts(mask.value), strict=True)
        return self._joined([self.builder.call(function, [at, part, zero]) for at, part in parts])

    def store(self, lanes: Lanes, pointer: tuple[ir.Value, ...], distance: int = 0) -> None:
        kind = FLOATS if lanes.value.type == self.float_kind else INTS
        for part, at in zip(self._parts(lanes.value), self._at(pointer, distance, kind), strict=True):
            self.builder.store(part, at, align=4)

    def _at(self, pointer: tuple[ir.Value, ...], distance: int, kind: ir.Type) -> list[ir.Value]:
        moved = (self.builder.gep(at, [ir.IntType(64)(distance)], source_etype=INT) for at in pointer)
        return [self.builder.bitcast(at, kind.as_pointer()) for at in moved]

    def _lanes_of(self, value: ir.Value, order: list[int], other: ir.Value | None = None) -> ir.Value:
        other = value.type(ir.Undefined) if other is None else other
        return self.builder.shuffle_vector(value, other, ir.VectorType(INT, len(order))([INT(i) for i in order]))

    def _joined(self, parts: list[ir.Value]) -> Lanes:
        one, *others = parts
        return Lanes(self, one if not others else self._lanes_of(one, list(range(self.lanes)), others[0]))

    def _parts(self, value: ir.Value) -> list[ir.Value]:
        if self.registers == 1:
            return [value]
        return [self._lanes_of(value, list(range(first, first + LANES))) for first in range(0, self.lanes, LANES)]
