#!/usr/bin/env bash
# numba 0.68.1: a loop over 32-bit words that rotates and adds (a counter-based random generator) is vectorised in 64-bit lanes, though
# every result is cast to uint32 at once. A register then holds half as many words, and a rotation, one instruction where lanes have 32
# bits, becomes two shifts and an "or".
#   bash findings/numba_words_of_32_bits_in_lanes_of_64.sh      (x86-64; needs Python >= 3.11 and a package index; nothing is run
#                                                                but the compiler, so any such CPU will do)
#
# Seen (numpy 2.4.6, LLVM 22.1, compiled for skylake-avx512), of these instructions on whole registers:
#   written with casts:   vpaddq
#   by intrinsics:        vpaddd vprold
#
# uint32 + uint32 is a uint64 to numba; LLVM narrows scalars back, but not this chain once it is vectorised. A word of Threefry-4x32-13
# took 0.66 ns with casts and 0.23 ns with 32-bit operations (Zen 4, one core). Exits with 1 where this is no longer so.
set -euo pipefail
if [ "$(uname -m)" != x86_64 ]; then echo "left out: the compiler of x86-64 is looked at"; exit 0; fi
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip --disable-pip-version-check install --quiet numba==0.68.1 numpy==2.4.6

cat > words.py <<'PY'
import re

from llvmlite import ir
from numba import njit, types, uint32
from numba.extending import intrinsic

ROTATIONS = (10, 11, 13, 23, 6, 17, 25, 18)


@intrinsic
def added(typing_context, first, second):
    return types.uint32(types.uint32, types.uint32), lambda c, builder, s, words: builder.add(*words)


@intrinsic
def mixed(typing_context, word, by, other):
    def emit(context, builder, signature, arguments):
        kind = ir.IntType(32)
        name, (word, by, other) = "llvm.fshl.i32", arguments
        shift = builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
        return builder.xor(builder.call(shift, [word, word, by]), other)

    return types.uint32(types.uint32, types.uint32, types.uint32), emit


def loop(name, line):
    body = "".join(line.format(by=by) for by in ROTATIONS)
    text = f"def {name}(out):\n  for i in range(out.shape[0]):\n    a, b = uint32(i), uint32(7)\n{body}    out[i] = b\n"
    names = {"uint32": uint32, "added": added, "mixed": mixed}
    exec(text, names)
    kernel = njit(names[name])
    kernel.compile(types.void(types.uint32[::1]))
    (code,) = kernel.inspect_asm().values()
    return {name for name in ("vpaddq", "vpaddd", "vprold") if re.search(rf"\b{name}\s.*[yz]mm", code)}


casts = loop("casts", "    a = uint32(a + b)\n    b = uint32(uint32((b << uint32({by})) | (b >> uint32(32 - {by}))) ^ a)\n")
words = loop("words", "    a = added(a, b)\n    b = mixed(b, uint32({by}), a)\n")
print("written with casts:  ", *sorted(casts))
print("by intrinsics:       ", *sorted(words))
wide = "vpaddq" in casts and "vprold" not in casts
raise SystemExit(0 if wide and "vprold" in words and "vpaddd" in words else 1)
PY
FEATURES="+sse2,+sse4.2,+avx,+avx2,+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512cd"
NUMBA_CPU_NAME=skylake-avx512 NUMBA_CPU_FEATURES="$FEATURES" venv/bin/python words.py
