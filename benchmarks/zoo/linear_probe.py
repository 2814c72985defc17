"""A linear classifier on fixed features, in the form of a Dense layer's weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression


def fit_linear_probe(features: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Logistic regression on features (n, width): `kernel` (width, classes) and `bias` (classes,), float32."""
    fitted = LogisticRegression(max_iter=1000).fit(features, labels)
    return {"kernel": fitted.coef_.T.astype(np.float32), "bias": fitted.intercept_.astype(np.float32)}
