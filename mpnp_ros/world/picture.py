"""A picture of one moment of the world: what six cameras see, and the LiDAR from above with the boxes."""
from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mpnp_ros.nuscenes.bag_messages import COLOURS
from mpnp_ros.nuscenes.geometry import box_corners
from mpnp_ros.nuscenes.key_frame import AnnotatedObject
from mpnp_ros.world.conditions import Conditions
from mpnp_ros.world.drive import World
from mpnp_ros.world.identity import SceneIdentity
from mpnp_ros.world.rig import EGO_REAR, EGO_SIZE, LIDAR
from mpnp_ros.world.scene import Sensors, WorldFrame

ROWS = (('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT'), ('CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT'))
AHEAD, ASIDE = 50.0, 30.0
"""Metres shown from above, before and behind the vehicle and on either side."""
GAP, MARGIN = 6, 14
PAPER, INK, FAINT, EGO = (16, 18, 22), (235, 236, 238), (128, 134, 142), (90, 220, 160)
LOWEST, HIGHEST = np.array((46, 92, 138.)), np.array((250, 226, 150.))
"""Colours of points on the ground and from three metres up."""


def draw(seed: int, conditions: Conditions, time: float = 0.0,
         size: tuple[int, int] = (400, 225)) -> Image.Image:
    """The moment ``time`` seconds into a scene; size: width, height of each camera's image, pixels."""
    world = World(seed, conditions)
    world.step(time)
    frame = Sensors(('camera', 'lidar'), size).perceive(world.state(), 0)
    return montage(frame, SceneIdentity(seed, conditions))


def montage(frame: WorldFrame, identity: SceneIdentity) -> Image.Image:
    """The images of a key frame in two rows and, to their right, its sweep from above."""
    height, width = frame.images['CAM_FRONT'].shape[:2]
    above = from_above(frame, identity, 2 * height + GAP)
    head = 3 * MARGIN
    picture = Image.new('RGB', (3 * width + 3 * GAP + above.width + 2 * MARGIN,
                                head + 2 * height + GAP + MARGIN), PAPER)
    pen = ImageDraw.Draw(picture)
    title = f'seed {identity.seed} · {identity.conditions.light} · {identity.conditions.weather}'
    pen.text((MARGIN, head / 2), f'{title}   t = {frame.state.time:.1f} s', INK, font(15), 'lm')
    for row, channels in enumerate(ROWS):
        for column, channel in enumerate(channels):
            corner = (MARGIN + column * (width + GAP), head + row * (height + GAP))
            picture.paste(Image.fromarray(frame.images[channel]), corner)
            name = channel.removeprefix('CAM_').replace('_', ' ').lower()
            pen.text((corner[0] + 6, corner[1] + 5), name, INK, font(12), stroke_width=2, stroke_fill=PAPER)
    picture.paste(above, (MARGIN + 3 * (width + GAP), head))
    return picture


def from_above(frame: WorldFrame, identity: SceneIdentity, height: int) -> Image.Image:
    """The sweep and the boxes of a key frame seen from above, the vehicle's way up; height: pixels."""
    scale = height / (2 * AHEAD)
    picture = Image.new('RGB', (round(2 * ASIDE * scale), height), PAPER)
    pen = ImageDraw.Draw(picture)
    _rings(pen, scale)
    _points(picture, frame.sweep.points, scale)
    objects = frame.key_frame(identity).objects
    for item in objects:
        _box(pen, item, scale)
    front = EGO_SIZE[0] - EGO_REAR
    corners = box_corners(((front - EGO_REAR) / 2, 0, 0), (EGO_SIZE[0], EGO_SIZE[1], 0), 0.0)[:4]
    pen.polygon([_pixel(corner, scale) for corner in corners], EGO)
    _legend(pen, sorted({item.category for item in objects if item.num_lidar_pts}))
    return picture


def font(size: int) -> ImageFont.ImageFont:
    """The font of all writing."""
    return ImageFont.load_default(size)


def _rings(pen: ImageDraw.ImageDraw, scale: float) -> None:
    x, y = _pixel((0, 0), scale)
    for metres in (10, 20, 30, 40, 50):
        radius = metres * scale
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=(34, 38, 44))
        pen.text((x + 3, y - radius + 2), f'{metres} m', FAINT, font(9))


def _points(picture: Image.Image, points: np.ndarray, scale: float) -> None:
    """Points as pixels, coloured by height; the highest of those that fall on one pixel shows."""
    ego = LIDAR.pose.apply(points[:, :3])
    ego = ego[np.argsort(ego[:, 2], kind='stable')]
    share = np.clip(ego[:, 2:] / 3.0, 0, 1)
    colours = (LOWEST + share * (HIGHEST - LOWEST)).astype(np.uint8)
    columns, rows = np.array(_pixel(ego.T, scale)).round().astype(int)
    inside = (columns >= 0) & (columns < picture.width) & (rows >= 0) & (rows < picture.height)
    pixels = np.array(picture)
    pixels[rows[inside], columns[inside]] = colours[inside]
    picture.paste(Image.fromarray(pixels))


def _box(pen: ImageDraw.ImageDraw, item: AnnotatedObject, scale: float) -> None:
    """Outline, with a line from the middle to the front; faint where no point touches the object."""
    colour = _colour(item.category) if item.num_lidar_pts else (70, 74, 80)
    corners = box_corners(item.centre, item.size, item.yaw)[:4]
    pen.polygon([_pixel(corner, scale) for corner in corners], outline=colour)
    pen.line([_pixel(item.centre, scale), _pixel((corners[0] + corners[3]) / 2, scale)], colour)


def _legend(pen: ImageDraw.ImageDraw, categories: list[str]) -> None:
    for row, category in enumerate(categories):
        pen.rectangle((6, 8 + 13 * row, 13, 15 + 13 * row), outline=_colour(category))
        pen.text((18, 12 + 13 * row), category, INK, font(10), 'lm')


def _colour(category: str) -> tuple[int, int, int]:
    """The devkit's colour, lightened for a dark ground."""
    return tuple(round(255 * (0.35 + 0.65 * part)) for part in COLOURS[category])


def _pixel(point: np.ndarray | tuple[float, ...], scale: float) -> tuple[float, float]:
    """Where a point of the ego frame (x ahead, y left, metres) is in the picture."""
    return (ASIDE - point[1]) * scale, (AHEAD - point[0]) * scale
