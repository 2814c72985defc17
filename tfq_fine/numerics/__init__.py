"""Arithmetic that knows no graphs: affine codes, histograms, errors, sizes."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.numerics import affine
    from tfq_fine.numerics.affine import (
        HALF_SCALES,
        LARGEST_HALF,
        LEAST_STEP,
        SMALLEST_HALF,
        SYMMETRIC,
        TINY,
        CodeFormat,
    )
    from tfq_fine.numerics.blas_threads import threads_for
    from tfq_fine.numerics.errors import Agreement, ErrorSums, in_top, is_classes, is_tied
    from tfq_fine.numerics.histogram import Counter, Histogram
    from tfq_fine.numerics.intervals import paired_interval, share_interval
    from tfq_fine.numerics.sizes import constant_bytes, is_large
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "affine": "CodeFormat HALF_SCALES LARGEST_HALF LEAST_STEP SMALLEST_HALF SYMMETRIC TINY affine",
            "blas_threads": "threads_for",
            "errors": "Agreement ErrorSums in_top is_classes is_tied",
            "histogram": "Counter Histogram",
            "intervals": "paired_interval share_interval",
            "sizes": "constant_bytes is_large",
        },
    )

__all__ = [
    "HALF_SCALES",
    "LARGEST_HALF",
    "LEAST_STEP",
    "SMALLEST_HALF",
    "SYMMETRIC",
    "TINY",
    "Agreement",
    "CodeFormat",
    "Counter",
    "ErrorSums",
    "Histogram",
    "affine",
    "constant_bytes",
    "in_top",
    "is_classes",
    "is_large",
    "is_tied",
    "paired_interval",
    "share_interval",
    "threads_for",
]
