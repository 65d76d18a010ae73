"""How well predicted objects match true ones: label images in, figures out.

F1 and panoptic quality as in Kirillov et al., "Panoptic segmentation", CVPR 2019, p. 9404; mean average precision
as in the Data Science Bowl 2018 (Caicedo et al., Nature Methods 16 (2019), p. 1247): true positives over true
positives, false positives and false negatives, averaged over thresholds of IoU.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


@dataclass(slots=True)
class Tally:
    """Matches counted over any number of images."""

    truths: int = 0
    guesses: int = 0
    hits: dict[float, int] = field(default_factory=lambda: dict.fromkeys(THRESHOLDS, 0))
    overlap: float = 0.0  # sum of the IoU of the pairs at 0.5

    def add(self, truth: NDArray[np.integer], guess: NDArray[np.integer], *, drop_border: bool = False) -> None:
        """Count one image: integer (H, W) labels, 0 background.

        With ``drop_border`` objects that touch the image's edge are left out on both sides.
        """
        if truth.shape != guess.shape:
            raise ValueError(f"Labels of the shapes {truth.shape} and {guess.shape} cannot be compared.")
        if drop_border:
            truth, guess = without_border(truth), without_border(guess)
        iou = pairwise_iou(truth, guess)
        self.truths += iou.shape[0]
        self.guesses += iou.shape[1]
        # Above an IoU of 0.5 an object can have one partner only, so that no assignment is to be solved.
        for threshold in THRESHOLDS:
            self.hits[threshold] += int((iou > threshold).sum())
        self.overlap += float(iou[iou > 0.5].sum())

    def f1(self, threshold: float) -> float:
        """Twice the matches over all objects, true and predicted; 1 where there are none at all."""
        total = self.truths + self.guesses
        return 2 * self.hits[threshold] / total if total else 1.0

    @property
    def average_precision(self) -> float:
        """Mean over the thresholds 0.5, 0.55 … 0.95."""
        each = [hits / max(1, self.truths + self.guesses - hits) for hits in self.hits.values()]
        return float(np.mean(each)) if self.truths + self.guesses else 1.0

    @property
    def panoptic(self) -> float:
        total = self.truths + self.guesses
        return 2 * self.overlap / total if total else 1.0


def pairwise_iou(truth: NDArray[np.integer], guess: NDArray[np.integer]) -> NDArray[np.float64]:
    """Intersection over union of each true with each predicted object: float64 (truths, guesses)."""
    true_ids, rows = np.unique(truth, return_inverse=True)
    guess_ids, columns = np.unique(guess, return_inverse=True)
    shape = (true_ids.size, guess_ids.size)
    shared = np.bincount(rows.ravel() * shape[1] + columns.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    union = shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared
    return np.asarray((shared / np.maximum(union, 1))[true_ids > 0][:, guess_ids > 0])


def without_border(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """The labels less the objects that touch the image's edge."""
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.where(np.isin(labels, edge), 0, labels)
