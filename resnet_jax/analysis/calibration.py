"""How good predicted probabilities are. A score of what is not finite is NaN.

Everywhere `probabilities` is float[examples, classes], whose rows sum to 1, and `labels` int[examples].
"""

import math
from typing import NamedTuple

import numpy as np

BINS = 15
# So that the logarithm of what rounding made zero is finite.
TINY = 1e-30


class Reliability(NamedTuple):
    """Examples in bins of their confidence, the largest probability: arrays [bins].

    Attributes:
        examples: how many are in the bin.
        confidence, accuracy: means over them; NaN where there are none, and everywhere where a
            probability is not finite.
    """

    examples: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Reliability:
    """Confidence and accuracy in equal bins of confidence, ((m − 1) / M, m / M] (Guo et al. 2017, "On
    Calibration of Modern Neural Networks", §2)."""
    if not np.isfinite(probabilities).all():
        return Reliability(*np.full((3, bins), np.nan))
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(places, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(places, values, bins) / count for values in (confidence, correct)]
    return Reliability(count, *means)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: Σ_m n_m / n · |accuracy_m − confidence_m| (Guo et al. 2017, eq. 3)."""
    count, confidence, accuracy = reliability(probabilities, labels, bins)
    if not np.isfinite(count).all():
        return math.nan
    filled = count > 0
    gaps = np.abs(accuracy - confidence)[filled]
    return float((count[filled] * gaps).sum() / count.sum())


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy in nats."""
    own = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, TINY)).mean())


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over examples of Σ_c (p_c − 1[c = label])², from 0 to 2 (Brier 1950, eq. 2)."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(np.square(probabilities - truth).sum(1).mean())


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Share of examples whose likeliest class is right; works on logits too."""
    if not np.isfinite(probabilities).all():
        return math.nan
    return float((probabilities.argmax(1) == labels).mean())


def scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """All of the above, by name."""
    return {
        "accuracy": accuracy(probabilities, labels),
        "loss": negative_log_likelihood(probabilities, labels),
        "calibration_error": calibration_error(probabilities, labels),
        "brier_score": brier_score(probabilities, labels),
    }
