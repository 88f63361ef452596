"""A picture of one moment of the world: six camera images, and a top view of LiDAR points and boxes."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mpnp_ros.poses import box_corners
from mpnp_ros.questions.key_frame import AnnotatedObject
from mpnp_world.dataset.frames import Sensors, WorldFrame
from mpnp_world.scene.identity import Conditions, SceneIdentity
from mpnp_world.scene.world import World
from mpnp_world.sensors.rig import EGO_REAR, EGO_SIZE, LIDAR, SMALL_SIZE

ROWS = (('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT'), ('CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT'))
REACH = 42.0
"""Range of the top view in all directions, metres."""
GAP, MARGIN, LEGEND = 6, 14, 168
"""Gap between images, margin, and width of the legend, pixels."""
PAPER, GROUND, INK = (22, 24, 29), (13, 15, 19), (235, 236, 238)
FAINT, EGO = (128, 134, 142), (90, 220, 160)
COLOURS = {
    'car': (255, 176, 59), 'truck': (255, 104, 84), 'bus': (199, 125, 255), 'trailer': (240, 98, 175),
    'construction vehicle': (250, 228, 84), 'pedestrian': (86, 180, 255), 'motorcycle': (0, 214, 180),
    'bicycle': (150, 230, 110), 'traffic cone': (230, 120, 20), 'barrier': (175, 184, 194),
}
UNSEEN = (72, 77, 84)
"""Colour of boxes without LiDAR points."""
LOWEST, HIGHEST = np.array((44, 84, 130.)), np.array((226, 226, 214.))
"""Colours of points on the ground and at heights of three metres or more."""


def draw(seed: int, conditions: Conditions, time: float = 0.0,
         size: tuple[int, int] = SMALL_SIZE) -> Image.Image:
    """The picture ``time`` seconds into a scene; size: width, height of each camera's image, pixels."""
    world = World(seed, conditions)
    world.step(time)
    frame = Sensors(('camera', 'lidar'), size).perceive(world.state(), 0)
    return montage(frame, SceneIdentity(seed, conditions))


def montage(frame: WorldFrame, identity: SceneIdentity) -> Image.Image:
    """The images of a key frame in two rows and, to their right, its sweep from above."""
    height, width = frame.images['CAM_FRONT'].shape[:2]
    objects = frame.key_frame(identity).objects
    above = from_above(frame, objects, 2 * height + GAP)
    left, head = MARGIN + 3 * (width + GAP), 3 * MARGIN
    picture = Image.new('RGB', (left + above.width + LEGEND, head + above.height + MARGIN), PAPER)
    pen = ImageDraw.Draw(picture)
    title = f'seed {identity.seed} · {identity.conditions.light} · {identity.conditions.weather}'
    pen.text((MARGIN, head / 2), f'{title}   {frame.state.time:.1f} s', INK, font(15), 'lm')
    for row, channels in enumerate(ROWS):
        for column, channel in enumerate(channels):
            corner = (MARGIN + column * (width + GAP), head + row * (height + GAP))
            picture.paste(Image.fromarray(frame.images[channel]), corner)
            name = channel.removeprefix('CAM_').replace('_', ' ').lower()
            pen.text((corner[0] + 6, corner[1] + 5), name, INK, font(12), stroke_width=2, stroke_fill=PAPER)
    picture.paste(above, (left, head))
    # The legend: colours of categories with their numbers of objects that have LiDAR points.
    met = Counter(item.category for item in objects if item.num_lidar_pts)
    lines = [(COLOURS[category], f'{met[category]} {category}') for category in COLOURS if met[category]]
    x = left + above.width + MARGIN
    for row, (colour, text) in enumerate([*lines, (UNSEEN, 'without points')]):
        y = head + 8 + 17 * row
        pen.rectangle((x, y - 5, x + 9, y + 4), outline=colour)
        pen.text((x + 16, y), text, INK, font(11), 'lm')
    return picture


def from_above(frame: WorldFrame, objects: Iterable[AnnotatedObject], height: int) -> Image.Image:
    """The top view of a key frame, with the heading of the vehicle up.  height: pixels."""
    scale = height / (2 * REACH)
    picture = Image.new('RGB', (height, height), GROUND)
    pen = ImageDraw.Draw(picture)
    x, y = _pixel((0, 0), scale)
    for metres in (10, 20, 30, 40):
        radius = metres * scale
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=(38, 42, 49))
        pen.text((x + 3, y - radius + 2), f'{metres} m', FAINT, font(9))
    _points(picture, frame.sweep.points, scale)
    for item in sorted(objects, key=lambda item: item.num_lidar_pts > 0):
        colour = COLOURS[item.category] if item.num_lidar_pts else UNSEEN
        corners = box_corners(item.centre, item.size, item.yaw)[:4]
        pen.polygon([_pixel(corner, scale) for corner in corners], outline=colour)
        front = (corners[0] + corners[3]) / 2
        pen.line([_pixel(item.centre, scale), _pixel(front, scale)], colour)
    middle = (EGO_SIZE[0] / 2 - EGO_REAR, 0, 0)
    corners = box_corners(middle, (EGO_SIZE[0], EGO_SIZE[1], 0), 0.0)[:4]
    pen.polygon([_pixel(corner, scale) for corner in corners], EGO)
    return picture


def font(size: int) -> ImageFont.ImageFont:
    """The font of all text."""
    return ImageFont.load_default(size)


def _points(picture: Image.Image, points: np.ndarray, scale: float) -> None:
    """Draw points as pixels, coloured by height; the highest point of a pixel is visible."""
    ego = LIDAR.pose.apply(points[:, :3])
    ego = ego[np.argsort(ego[:, 2], kind='stable')]
    share = np.clip(ego[:, 2:] / 3.0, 0, 1)
    colours = (LOWEST + share * (HIGHEST - LOWEST)).astype(np.uint8)
    columns, rows = np.array(_pixel(ego.T, scale)).round().astype(int)
    inside = (columns >= 0) & (columns < picture.width) & (rows >= 0) & (rows < picture.height)
    pixels = np.array(picture)
    pixels[rows[inside], columns[inside]] = colours[inside]
    picture.paste(Image.fromarray(pixels))


def _pixel(point: np.ndarray | tuple[float, ...], scale: float) -> tuple[float, float]:
    """The pixel of a point of the ego frame (x ahead, y left, metres)."""
    return (REACH - point[1]) * scale, (REACH - point[0]) * scale
