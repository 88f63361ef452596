"""Creation of detectors by name, file or folder."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from mpnp_ros.detection.detectors.base import Detector
from mpnp_ros.detection.detectors.npm_weights import CENTERNET, NANODET_G
from mpnp_ros.errors import ConfigurationError


def create_detector(source: str = CENTERNET.name, device: str = 'auto', threads: int = 0,
                    width: int = 0, words: Sequence[str] = ()) -> Detector:
    """Load a detector.

    source: ``centernet`` or ``nanodet-g``, which are installed from npm; a folder with ncnn files of a
    NanoDet-Plus; an ONNX file with a YAML file beside it; the folder of a detector of transformers, or its id
    on the hub.  device: for networks that torch runs.  threads: of the others on a CPU; 0: as many as torch
    has.  width: that images are shrunk to, pixels; 0: that of the detector.  words: what an open-vocabulary
    detector looks for; others have classes of their own.
    Raises ConfigurationError or WeightsError with the remedy.
    """
    path, threads = Path(source).expanduser(), threads or torch.get_num_threads()
    if source == NANODET_G.name:
        from mpnp_ros.detection.detectors.nanodet_g import NanoDetG
        return NanoDetG(device, width)
    if source == CENTERNET.name:
        from mpnp_ros.detection.detectors.centernet import CenterNet
        return CenterNet(device, width)
    if path.is_dir() and list(path.glob('*.param')):
        from mpnp_ros.detection.detectors.nanodet import NanoDet
        return NanoDet(path, threads, width)
    if width:
        raise ConfigurationError(f'detector_width is {width}, but the files of the detector {source} say how '
                                 'large its images are; set it to 0')
    if path.suffix == '.onnx':
        from mpnp_ros.detection.detectors.onnx_file import OnnxDetector
        return OnnxDetector(path, threads)
    from mpnp_ros.detection.detectors.hub import HubDetector, folder_of
    from mpnp_ros.detection.detectors.open_vocabulary import OpenVocabularyDetector, is_open_vocabulary
    folder = folder_of(str(path) if path.is_dir() else source)
    return OpenVocabularyDetector(folder, words, device) if is_open_vocabulary(folder) else \
        HubDetector(folder, device)
