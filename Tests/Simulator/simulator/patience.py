"""Deadlines of the harness. VPC_CNI_PATIENCE=4 multiplies each by four, for a slow or busy machine.

A deadline limits the wait for an event that should have happened; it does not affect what is under test. Tests that judge
elapsed time compare it themselves and have the marker `timed`.
"""

from __future__ import annotations

import os

FACTOR = max(1.0, float(os.environ.get("VPC_CNI_PATIENCE", "1")))


def patient(seconds: float) -> float:
    """The deadline on this machine, in seconds."""
    return seconds * FACTOR
