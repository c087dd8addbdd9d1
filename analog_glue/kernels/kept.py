"""Where compiled kernels, and what was measured about them, lie between runs; asked before numba is imported."""

import hashlib
import os
from functools import cache
from pathlib import Path


@cache
def sources() -> str:
    """A hash of all kernels, those of in-situ training too, which call some of the others."""
    package = Path(__file__).parent.parent
    texts = [path.read_bytes() for path in sorted(package.glob("**/kernels/*.py"))]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:12]


def folder() -> Path:
    """The folder of the kernels as they are now: numba looks for changes only in a kernel's own file."""
    return Path(os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parent / "__pycache__" / f"kernels-{sources()}")
