#!/usr/bin/env bash
# badcrossbar 1.1.0: importing it configures the logging of the whole process. The root logger gets level INFO and a handler on
# stdout, so that from then on INFO lines of every other library land in the program's output, and each solution adds its own.
#   bash findings/badcrossbar_import_logs_for_all.sh      (needs Python >= 3.9 and a package index)
#
# Seen (badcrossbar 1.1.0, numpy 2.4.6, scipy 1.17.1):
#   lines on stdout before the import: 0; root level WARNING, 0 handlers
#   lines on stdout after it: 1 of another logger, 5 of one solution of 2 x 2 devices; root level INFO, 1 handler
#
# Matters where a program pipes its result (CSV, JSON) and uses the solver as a reference. It is installed without dependencies
# here: by its metadata the solver needs pycairo, which has no ready-made package for Linux, and pytest; it imports neither.
# Exits with 1 where this is no longer so.
set -euo pipefail
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip --disable-pip-version-check install --quiet numpy==2.4.6 scipy==1.17.1
venv/bin/python -m pip --disable-pip-version-check install --quiet --no-deps badcrossbar==1.1.0 pathvalidate==3.3.1

cat > logs.py <<'PY'
import contextlib
import importlib.metadata
import io
import logging
import sys
import warnings

warnings.simplefilter("ignore")
root = logging.getLogger()
other = logging.getLogger("of_others")


def lines(action):
    """What reaches stdout while `action` runs."""
    text = io.StringIO()
    for handler in root.handlers:
        handler.setStream(text)
    with contextlib.redirect_stdout(text):
        action()
    return len(text.getvalue().splitlines())


before = lines(lambda: other.info("of another library")), logging.getLevelName(root.level), len(root.handlers)
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    import badcrossbar
on_stdout = [handler for handler in root.handlers if isinstance(handler, logging.StreamHandler)]
after = lines(lambda: other.info("of another library")), logging.getLevelName(root.level), len(on_stdout)
solved = lines(lambda: badcrossbar.compute([[0.1], [0.2]], [[4e4, 5e4], [6e4, 7e4]], r_i=0.35))
needs = {text.split()[0] for text in importlib.metadata.requires("badcrossbar")}
print("before the import:", *before)
print("after the import: ", *after, "; lines of one solution:", solved)
print("needs, by its metadata:", ", ".join(sorted(needs)), "; imported:", [name for name in ("cairo", "pytest") if name in sys.modules])
as_seen = before == (0, "WARNING", 0) and after == (1, "INFO", 1) and solved > 0
as_seen &= {"pycairo", "pytest"} <= needs and not {"cairo", "pytest"} & set(sys.modules)
sys.exit(0 if as_seen else 1)
PY
venv/bin/python logs.py
