"""What the spread of weights over training iterates is good for: pruning and perturbation (Gokmen 2021, Tables 2 and 3).

    pruning         the smallest of |w|, or of |w| / s, of all weights of the network are set to 0
    perturbation    w + k s ξ                  noise that knows the spread s of each weight
                    w + k rms(s) ξ             noise of the same size over the network that does not ("uniform")

ξ is standard normal, the same in both. Biases lie on the arrays and count as weights. Every score is a row of `pruning.csv` or
`perturbation.csv`, written as soon as it is known; rows that are there are not measured again.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analog_glue.in_situ.files import PERTURBATION, PRUNING
from analog_glue.progress import Progress
from analog_glue.runs.cells import read_cells, write_cells
from analog_glue.seeding import key

Weights = list[np.ndarray]
Row = dict[str, Any]


def pruned(weights: Weights, importance: Weights, fraction: float) -> Weights:
    """`weights` of all arrays with the least important `fraction` of them at 0."""
    least = np.argsort(np.concatenate([values.ravel() for values in importance]), kind="stable")
    kept = np.ones(len(least))
    kept[least[: round(fraction * len(least))]] = 0
    cuts = np.cumsum([values.size for values in weights])[:-1]
    return [w * k.reshape(w.shape) for w, k in zip(weights, np.split(kept, cuts), strict=True)]


def certainty(weights: Weights, spread: Weights) -> Weights:
    """|w| / s; a weight that never moved is as certain as can be, and 0 is worth nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return [np.where(w == 0, 0.0, np.abs(w) / s) for w, s in zip(weights, spread, strict=True)]


def perturbed(weights: Weights, spread: Weights, noise: str, scale: float, seed: int) -> Weights:
    """`weights` with normal noise of `scale` spreads, `noise` "spread" or "uniform"."""
    random = np.random.Generator(np.random.Philox(seed))
    rms = np.sqrt(np.mean(np.concatenate([values.ravel() for values in spread]) ** 2))
    size = spread if noise == "spread" else [np.full_like(values, rms) for values in spread]
    return [w + scale * s * random.standard_normal(w.shape) for w, s in zip(weights, size, strict=True)]


def score_pruning(
    folder: Path, name: str, weights: Weights, spread: Weights | None, fractions: Sequence[float],
    score: Callable[[Weights], dict[str, float]],
) -> None:  # fmt: skip
    """Rows of `pruning.csv`: of the weights called `name`, for every criterion that is known and every fraction."""
    importance = {"magnitude": [np.abs(values) for values in weights]}
    if spread:
        importance["mean_over_spread"] = certainty(weights, spread)

    def points() -> Iterator[tuple[Row, Callable[[], Weights]]]:
        for fraction in sorted(set(fractions)):
            for criterion, values in importance.items():
                row = {"weights": name, "criterion": criterion, "fraction": fraction}
                yield row, lambda values=values, fraction=fraction: pruned(weights, values, fraction)

    _measure(folder / PRUNING, list(points()), score)


def score_perturbation(
    folder: Path, name: str, weights: Weights, spread: Weights, scales: Sequence[float], draws: int, seed: int,
    score: Callable[[Weights], dict[str, float]],
) -> None:  # fmt: skip
    """Rows of `perturbation.csv`: of the weights called `name`, for both noises, every scale and draw."""

    def points() -> Iterator[tuple[Row, Callable[[], Weights]]]:
        for scale in sorted(set(scales)):
            for draw in range(draws):
                seed_of_draw = key(seed, "perturbation", draw)
                for noise in ("spread", "uniform"):
                    row = {"weights": name, "noise": noise, "scale": scale, "draw": draw}
                    point = (noise, scale, seed_of_draw)
                    yield row, lambda point=point: perturbed(weights, spread, *point)

    _measure(folder / PERTURBATION, list(points()), score)


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of one of the tables; none where there is no file."""
    return read_cells(path)


def _measure(path: Path, points: list[tuple[Row, Callable[[], Weights]]], score: Callable[[Weights], dict[str, float]]) -> None:
    rows = rows_of(path)
    known = {tuple(row[name] for name in points[0][0]) for row in rows} if points else set()
    missing = [point for point in points if tuple(str(value) for value in point[0].values()) not in known]
    with Progress(path.stem, len(missing), "score") as progress:
        for row, make in missing:
            rows += [{**row, "metric": metric, "value": value} for metric, value in score(make()).items()]
            write_cells(path, rows)
            progress.update(1)
