"""What a quantized file costs against its float model: both run side by side on the same samples."""

from tfq_fine.report import Report
from tfq_fine.verification.side_by_side import verify

__all__ = ["Report", "verify"]
