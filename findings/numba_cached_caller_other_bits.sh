#!/usr/bin/env bash
# numba 0.68.1: a cached kernel that calls another cached kernel gives other last bits in the process that compiles both than in
# every later process, which loads the caller from the disk. Nothing else changes: same source, same input, same machine.
#   bash findings/numba_cached_caller_other_bits.sh      (needs Python >= 3.11 and a package index)
#
# Seen (numpy 2.4.6, x86-64 with AVX-512):
#   called:        990.7701172828674   990.7701177597046   990.7701177597046
#   forceinline:   990.7701177597046   990.7701177597046   990.7701177597046
#
# Both kernels allow sums in another order (fastmath "reassoc"). In the first process the call goes to the kernel as it was compiled
# for itself; the copy beside the cached caller is optimised together with it. So "compiled once" is not "the same numbers": a run
# that compiles and one that does not differ by 5e-10 here, and a test that repeats a run in one process does not see it. With
# forceinline=True on the callee there is no call left, and all processes agree. Exits with 1 where this is no longer so.
set -euo pipefail
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip --disable-pip-version-check install --quiet numba==0.68.1 numpy==2.4.6

cat > caller.py <<'PY'
import sys

import numpy as np
from numba import njit

OPTIONS = dict(cache=True, fastmath={"contract", "arcp", "nsz", "nnan", "reassoc"}, error_model="numpy")


@njit(forceinline=sys.argv[1] == "forceinline", **OPTIONS)
def log_sum_exp(values, exponentials):
    largest = values[0]
    for i in range(len(values)):
        largest = max(largest, values[i])
    total = np.float32(0)
    for i in range(len(values)):
        exponentials[i] = np.exp(values[i] - largest)
        total += exponentials[i]
    for i in range(len(values)):
        exponentials[i] /= total
    return np.log(total) + largest


@njit(**OPTIONS)
def sum_of_rows(table, scratch):
    total = 0.0
    for row in range(len(table)):
        total += log_sum_exp(table[row, : table.shape[1] - 9], scratch[row])
    return total


table = np.random.default_rng(0).normal(size=(200, 96)).astype(np.float32)
print(repr(sum_of_rows(table, np.empty_like(table))))
PY

three_runs() {
  for _ in 1 2 3; do NUMBA_CACHE_DIR="$WORK/kept-$1" venv/bin/python caller.py "$1"; done
}
CALLED=$(three_runs called | tr '\n' ' ')
INLINED=$(three_runs forceinline | tr '\n' ' ')
echo "called:        $CALLED"
echo "forceinline:   $INLINED"
read -r a b c <<< "$CALLED"
read -r d e f <<< "$INLINED"
[ "$a" != "$b" ] && [ "$b" = "$c" ] && [ "$d" = "$e" ] && [ "$e" = "$f" ]
