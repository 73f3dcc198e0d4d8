"""Finds images that may be labelled wrong."""

from __future__ import annotations

from typing import Any

from keras_crossvit._internal.optional import require_library
from keras_crossvit.evaluation.results import Evaluation


def suspected_labels(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Returns the rows of `predictions` whose class may be wrong, the most suspicious first, by confident learning.

    Args:
        evaluation: The result on images that the model was not trained on.

    Raises:
        MissingLibraryError: cleanlab is not installed.

    Source: Northcutt, Jiang and Chuang, "Confident Learning", 2021; cleanlab.filter.find_label_issues.
    """
    cleanlab = require_library("cleanlab.filter", "report")
    if len(evaluation.class_names) < 2:
        return []
    sums = evaluation.probabilities.sum(axis=1, keepdims=True)  # below 1 if the model has more classes
    suspected = cleanlab.find_label_issues(
        evaluation.labels,
        evaluation.probabilities / sums,
        filter_by="confident_learning",
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    return [evaluation.predictions[i] for i in suspected]
