"""Measurements that the documentation quotes; run each as ``python -m benchmarks.NAME``."""

# First of all, because it switches the telemetry of the engines off.
import qsam2_deploy  # noqa: F401
