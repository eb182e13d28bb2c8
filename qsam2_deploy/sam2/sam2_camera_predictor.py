"""What scripts import from ``sam2.sam2_camera_predictor`` of the real-time fork."""

from __future__ import annotations

from ..predictors.camera_predictor import SAM2CameraPredictor

__all__ = ["SAM2CameraPredictor", "SAM2CameraPredictorVOS"]

SAM2CameraPredictorVOS = SAM2CameraPredictor
