"""The metrics of GLUE, in points (100 × the metric), by numpy, scikit-learn and scipy.

    accuracy   share of right answers
    f1         2 TP / (2 TP + FP + FN) of class 1; 0 where class 1 is neither present nor predicted
    matthews   (TP·TN − FP·FN) / √((TP+FP)(TP+FN)(TN+FP)(TN+FN)); 0 where a factor is 0
    pearson    linear correlation; not a number where one side is constant
    spearman   correlation of the ranks, ties at their mean rank; not a number where one side is constant

Source:
    Wang et al., GLUE (2019), Table 1.
"""

from collections.abc import Callable

import numpy as np


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    return 100.0 * float(np.mean(predictions == labels))  # scikit-learn takes a second to import


def f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return 100.0 * float(f1_score(labels, predictions, pos_label=1, average="binary", zero_division=0.0))


def matthews(predictions: np.ndarray, labels: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    return 100.0 * float(matthews_corrcoef(labels, predictions))


def pearson(predictions: np.ndarray, labels: np.ndarray) -> float:
    from scipy.stats import pearsonr

    return _correlation(pearsonr, predictions, labels)


def spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return _correlation(spearmanr, predictions, labels)


CLASSIFICATION: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
}
REGRESSION: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"pearson": pearson, "spearman": spearman}


def _correlation(measure: Callable, predictions: np.ndarray, labels: np.ndarray) -> float:
    # Said here and not left to scipy, which warns and rounds: a constant has no correlation.
    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return float("nan")
    return 100.0 * float(measure(predictions, labels).statistic)
