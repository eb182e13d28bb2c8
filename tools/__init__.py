"""Programs that make files of this repository from what others publish."""

# First of all, because it switches the telemetry of the engines off.
import qsam2_deploy  # noqa: F401
