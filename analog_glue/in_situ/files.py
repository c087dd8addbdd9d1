"""Names of the files that in-situ runs leave behind, and what they say in words."""

from __future__ import annotations

from pathlib import Path

from analog_glue.runs.cells import read_cells

CURVE, CONFIG, RUN = "learning_curve.csv", "run_config.json", "run.json"


EXTRACTION, PRUNING, PERTURBATION = "extraction.json", "pruning.csv", "perturbation.csv"


ARRAY_ERROR = "extraction_error.csv"  # of an array of random weights


CHANGES_NOTHING = {  # of what an epoch learns
    "training": ("epochs", "save_every", "average_products", "statistics_every", "average_epochs"),
    "device": ("drift",),  # begins after training
    "model": ("path",),  # its weights count with the data
}


def array_error(folder: Path) -> str:
    """What an extraction from a random array ended with, in words; empty where `folder` holds none."""
    rows = read_cells(folder / ARRAY_ERROR)
    return f"{int(rows[-1]['products']):,} products: error {float(rows[-1]['error']):.5f} of the range" if rows else ""
