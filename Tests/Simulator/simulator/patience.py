"""Deadlines of the harness. VPC_CNI_PATIENCE=4 makes each four times as long, for a slow or busy machine.

A deadline says when to give up on something that should have happened; what is under test does not depend on it. Tests that
judge elapsed time compare it themselves and have the marker `timed`.
"""

from __future__ import annotations

import os

FACTOR = max(1.0, float(os.environ.get("VPC_CNI_PATIENCE", "1")))


def patient(seconds: float) -> float:
    """The deadline on this machine, in seconds."""
    return seconds * FACTOR
