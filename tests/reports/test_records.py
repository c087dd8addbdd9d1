"""The measured runs that came with the source still give the tables that were committed beside them."""

from pathlib import Path

import matplotlib
import matplotlib.image
import numpy as np
import pytest

from analog_glue.cli.reading import priced
from analog_glue.in_situ.reports.chapter import chapter
from analog_glue.reports.build import build

CHECKOUT = Path(__file__).resolve().parents[2]
RECORDS = sorted((CHECKOUT / "outputs" / "records").glob("*/tables"))
# Another matplotlib draws letters a little differently; then the tables alone are compared.
SAME_FIGURES = f"matplotlib=={matplotlib.__version__}" in (CHECKOUT / "constraints.txt").read_text().split()


def test_every_record_has_its_tables():
    folders = [folder for folder in (CHECKOUT / "outputs" / "records").iterdir() if any(folder.rglob("run.json"))]
    assert RECORDS and {tables.parent for tables in RECORDS} == set(folders)


@pytest.mark.slow
@pytest.mark.parametrize("committed", RECORDS, ids=lambda tables: tables.parent.name)
def test_a_record_gives_the_tables_committed_beside_it(committed, tmp_path):
    record = committed.parent
    written = build(record, tmp_path, chapter(record), priced()).paths
    made = {path.name: path.read_bytes() for path in written if path.suffix != ".svg"}  # which are large, and not kept
    kept = {path.name: path.read_bytes() for path in committed.iterdir()}
    assert made.keys() == kept.keys()
    for name in kept:
        if not name.endswith(".png"):
            assert made[name] == kept[name], name
        elif SAME_FIGURES:
            assert same_picture(tmp_path / name, committed / name), name


def same_picture(one: Path, other: Path) -> bool:
    """Whether two pictures look the same: processors differ in the last bits of a position, hence in shades along a line."""
    if one.read_bytes() == other.read_bytes():
        return True
    first, second = (matplotlib.image.imread(path) for path in (one, other))
    return first.shape == second.shape and float(np.abs(first - second).mean()) < 1e-3


def test_another_picture_is_not_the_same(tmp_path):
    picture = np.ones((40, 60, 3))
    matplotlib.image.imsave(tmp_path / "a.png", picture)
    picture[20, 5:55] = 0  # a line
    matplotlib.image.imsave(tmp_path / "b.png", picture)
    picture[:] = 1
    picture[21, 5:55] = 0  # elsewhere
    matplotlib.image.imsave(tmp_path / "c.png", picture)
    assert same_picture(tmp_path / "a.png", tmp_path / "a.png")
    assert not same_picture(tmp_path / "a.png", tmp_path / "b.png") and not same_picture(tmp_path / "b.png", tmp_path / "c.png")
