"""Creation of detectors by name, file or folder."""
from __future__ import annotations

from pathlib import Path

import torch

from mpnp_ros.detection.detectors.base import Detector

CENTERNET = 'centernet'


def create_detector(source: str = CENTERNET, device: str = 'auto', threads: int = 0) -> Detector:
    """Load a detector.

    source: ``centernet``, the installed one; a folder with ncnn files of a NanoDet-Plus; an ONNX file with a
    YAML file beside it; the folder of a detector of transformers, or its id on the hub.  device: for
    networks that torch runs.  threads: of the others on a CPU; 0: as many as torch has.
    Raises ConfigurationError or WeightsError with the remedy.
    """
    path, threads = Path(source).expanduser(), threads or torch.get_num_threads()
    if source == CENTERNET:
        from mpnp_ros.detection.detectors.centernet import CenterNet
        return CenterNet(device)
    if path.suffix == '.onnx':
        from mpnp_ros.detection.detectors.onnx_file import OnnxDetector
        return OnnxDetector(path, threads)
    if path.is_dir() and list(path.glob('*.param')):
        from mpnp_ros.detection.detectors.nanodet import NanoDet
        return NanoDet(path, threads)
    from mpnp_ros.detection.detectors.hub import HubDetector
    return HubDetector(str(path) if path.is_dir() else source, device)
