"""The picture of real key frames: what was detected in the images and in the LiDAR sweep, and the answers."""
from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpnp_ros.cli.exchanges import Exchange, Score, of_type
from mpnp_ros.modalities.camera.config import CameraConfig
from mpnp_ros.nuscenes.sensor_files import read_image, read_lidar
from mpnp_ros.poses import box_corners
from mpnp_ros.questions.generator import NEARBY
from mpnp_ros.questions.key_frame import AnnotatedObject, KeyFrame
from mpnp_ros.questions.vocabulary import CATEGORIES, CATEGORY_OF_CHANNEL, CHANNELS, RELATIONS, relation
from mpnp_ros.questions.wording import TYPES
from mpnp_ros.tokens import ModalityTokens
from mpnp_world.demo.drive import CAMERA, LIDAR, sensors
from mpnp_world.demo.picture import (
    FAINT,
    INK,
    RIGHT,
    WRONG,
    leave_open,
    new_figure,
    show_image,
    show_sweep,
    write_png,
)
from mpnp_world.demo.real_drive import RealAnswers, RealMoment, near
from mpnp_world.demo.tables import directions_line, examples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AHEAD = ('cam_front_left', 'cam_front', 'cam_front_right')
BEHIND = ('cam_back_left', 'cam_back', 'cam_back_right')
SIZE = (16., 12.4)
IMAGE_WIDTH, LAST_LABEL = 800, .74
"""Pixels of the width of an image, and the share of it beyond which no label begins."""
LONGEST = 74
"""Letters of a question that are shown."""
REACH = 34.
"""Metres shown to each side in the view from above."""
LEAST = 0.3
"""Objects less probable than this are not drawn; they are counted."""
TOLD = 0.15
"""Expected numbers smaller than this are not written."""
ALIKE = math.radians(1.)
"""Directions nearer to each other than this may be those of one object."""
COLOURS = dict(zip(CATEGORIES, (
    '#7f7f7f', '#17becf', '#9467bd', '#ff7f0e', '#8c564b', '#e377c2', '#2f7ef0', '#d62728', '#bcbd22',
    '#2ca02c'), strict=True))
BAR_COLOURS = ('#1a7f37', '#0969da', '#8250df')
_MOVES = np.array([status in ('moving', 'with rider') for _, status in CHANNELS])
_KINDS = np.eye(len(CATEGORIES))[list(CATEGORY_OF_CHANNEL)]


@dataclass(frozen=True)
class Found:
    """An object that tokens tell of.

    probability: that it is there and within reach.  moves: probability that it moves, or is ridden; NaN: its
    category never does.  azimuth: radians.  distance: metres.
    """

    category: str
    probability: float
    moves: float
    azimuth: float
    distance: float
    source: str

    @property
    def label(self) -> str:
        """Return it in words."""
        status = '' if math.isnan(self.moves) else ' moves' if self.moves > .5 else ' stands'
        return f'{self.category} {self.probability:.0%}{status}'

    @property
    def place(self) -> tuple[float, float]:
        """Return x ahead and y left, metres."""
        return self.distance * math.cos(self.azimuth), self.distance * math.sin(self.azimuth)


def found_objects(tokens: ModalityTokens) -> list[Found]:
    """Return the objects of tokens that give one to each object; none for other tokens."""
    if tokens.values.shape[1] != len(CHANNELS) or tokens.distance is None or not len(tokens.distance):
        return []
    found = []
    for row, values in enumerate(np.asarray(tokens.values, float)):
        kinds, index = values @ _KINDS, int(tokens.source_index[row])
        best = int(kinds.argmax())
        own = np.array(CATEGORY_OF_CHANNEL) == best
        if values.sum() > 0 and np.isfinite(tokens.azimuth[row]):
            moves = values[own & _MOVES].sum() / kinds[best] if own.sum() > 1 else math.nan
            found.append(Found(
                CATEGORIES[best], float(values.sum()), float(moves), float(tokens.azimuth[row]),
                float(tokens.distance[row]), tokens.sources[index] if index < len(tokens.sources) else ''))
    return found


def known_categories(tokens: ModalityTokens) -> set[str]:
    """Return the categories that an encoder of objects can tell at all."""
    known = np.ones(len(CHANNELS), bool) if tokens.known is None or not len(tokens.known) else tokens.known
    return {category for (category, _), is_known in zip(CHANNELS, known, strict=True) if is_known}


def image_boxes(frame: KeyFrame, tokens: ModalityTokens,
                parameters: Mapping[str, Any]) -> dict[str, list[tuple[np.ndarray, Found | None]]]:
    """Return boxes [4] in pixels by camera, each with its object; None: it is too far away to count.

    Tokens have no boxes, so the images are looked at again.  parameters: of the encoder that made the tokens;
    where another one made them, there are no boxes.
    """
    from mpnp_ros.modalities.camera.detection_encoder import CameraDetectionEncoder
    from mpnp_ros.modalities.camera.images import CameraFrame
    from mpnp_ros.modalities.camera.registration import camera_view

    config = CameraConfig.from_mapping(parameters)
    if config.tokens != 'detections':
        return {}
    encoder = CameraDetectionEncoder(config)
    if encoder.fingerprint != tokens.encoder:
        return {}
    first = min(frame.cameras.values(), key=lambda reading: reading.stamp_ns).ego_pose.inverse()
    detections = encoder.detect(CameraFrame(tuple(
        camera_view(name, reading).moved(first @ reading.ego_pose)
        for name, reading in frame.cameras.items())))
    objects = found_objects(tokens)
    boxes: dict[str, list[tuple[np.ndarray, Found | None]]] = {}
    for row in np.argsort(detections.existence):
        name = detections.sources[detections.source_index[row]]
        alike = [item for item in objects if item.source == name and abs(math.remainder(
            item.azimuth - detections.azimuth[row], math.tau)) < ALIKE]
        item = min(alike, key=lambda item: abs(item.distance - detections.distance[row]), default=None)
        if detections.existence[row] >= LEAST and np.isfinite(detections.boxes[row]).all():
            boxes.setdefault(name, []).append((detections.boxes[row], item))
    return boxes


def draw_real(answers: RealAnswers, parameters: Mapping[str, Any], path: Path) -> Path:
    """Write the picture as a PNG and return its path.

    It shows the key frame with the most objects, and the accuracy of all.  parameters: of the camera encoder.
    """
    moment, drive = answers.fullest, answers.drive
    tokens = _tokens(moment)
    boxes = image_boxes(moment.frame, tokens[CAMERA], parameters) if CAMERA in tokens else {}
    figure, canvas = new_figure(SIZE)
    wide, high = .322, .235
    for row, names in enumerate((AHEAD, BEHIND)):
        for column, name in enumerate(names):
            place = .01 + column * (wide + .005), .955 - (row + 1) * (high + .005), wide, high
            axes = figure.add_axes(place)
            _camera(axes, moment.frame, name, boxes.get(name, []), tokens.get(CAMERA))
    _from_above(figure.add_axes((.01, .02, .33, .427)), moment.frame, tokens)
    _directions(figure.add_axes((.36, .245, .28, .2)), moment.frame, tokens)
    _examples(figure.add_axes((.66, .03, .33, .415)), moment.answers[drive.trials[0]])
    _types(figure.add_axes((.36, .075, .28, .115)), answers)
    number, count = 1 + drive.frames.index(moment.frame), len(drive.frames)
    which = f'key frame {number} of {count}' if count > 1 else 'one key frame'
    figure.suptitle(f'Real frames, {moment.frame.scene}, {which}: what the robot detects, and its answers. '
                    'Nothing was trained on them.', x=.01, y=.988, ha='left', fontsize=13, color=INK)
    return write_png(canvas, path)


def _tokens(moment: RealMoment) -> dict[str, ModalityTokens]:
    from mpnp_ros.conversions.messages import from_message

    return {name: from_message(message) for name, message in moment.sight.tokens.items()}


def _camera(axes: Axes, frame: KeyFrame, name: str, boxes: Sequence[tuple[np.ndarray, Found | None]],
            tokens: ModalityTokens | None) -> None:
    """Draw an image with what is detected in it, and the numbers that are counted in its view."""
    reading = frame.cameras.get(name.upper())
    show_image(axes, read_image(reading) if reading else None, name, IMAGE_WIDTH)
    if reading is None or reading.size is None or reading.intrinsics is None:
        return
    shrunk = IMAGE_WIDTH / reading.size[0]
    for box, item in boxes:
        left, top, right, bottom = box * shrunk
        colour = COLOURS[item.category] if item else 'white'
        axes.add_patch(_rectangle((left, top), right - left, bottom - top, colour,
                                  '-' if item is None or item.moves > .5 else '--', 1.6 if item else .6))
        if item is not None and item.probability >= LEAST:
            axes.text(min(max(left, 0), IMAGE_WIDTH * LAST_LABEL), max(top - 3, 14), item.label, fontsize=7.2,
                      color='white', va='bottom', clip_on=True,
                      bbox={'facecolor': colour, 'alpha': .85, 'pad': 1, 'linewidth': 0})
    axes.set(xlim=(0, IMAGE_WIDTH), ylim=(reading.size[1] * shrunk, 0))
    if tokens is not None:
        half = math.atan(reading.size[0] / 2 / reading.intrinsics[0, 0])
        ahead = reading.extrinsics.rotation @ (0., 0., 1.)
        middle = math.atan2(ahead[1], ahead[0])
        seen = [item for item in found_objects(tokens) if _within(item.azimuth, middle, half)]
        true = [item for item in near(frame) if _within(math.atan2(*item.centre[1::-1]), middle, half)]
        told = known_categories(tokens)
        untold = [item for item in true if item.category not in told]
        said = f'counted in this view: {_counted(seen)}\nannotated: ' + _counted(
            [item for item in true if item.category in told])
        said += f'; unknown to the detector: {_counted(untold)}' if untold else ''
        axes.text(.01, .025, said,
                  transform=axes.transAxes, fontsize=8, color='white', va='bottom', linespacing=1.35,
                  bbox={'facecolor': 'black', 'alpha': .6, 'pad': 2.5, 'linewidth': 0})


def _within(azimuth: float, middle: float, half: float) -> bool:
    return abs(math.remainder(azimuth - middle, math.tau)) <= half


def _counted(items: Sequence[Found | AnnotatedObject]) -> str:
    """Return expected or true numbers by category in words."""
    sums = {name: sum(item.probability if isinstance(item, Found) else 1. for item in items
                      if item.category == name) for name in CATEGORIES}
    expected = bool(items) and isinstance(items[0], Found)
    parts = [f'{number:.1f} {name}' if expected else f'{number:.0f} {name}'
             for name, number in sorted(sums.items(), key=lambda pair: -pair[1]) if number >= TOLD]
    return ', '.join(parts) or 'nothing'


def _from_above(axes: Axes, frame: KeyFrame, tokens: Mapping[str, ModalityTokens]) -> None:
    """Draw the sweep from above, the annotated boxes, and what the LiDAR (else the camera) finds."""
    lidar = frame.lidar
    points = (lidar.extrinsics.apply(read_lidar(lidar.path)[:, :3].astype(float)) if lidar
              else np.zeros((0, 3)))
    show_sweep(axes, points, REACH, REACH)
    axes.collections[-1].set(alpha=.35)
    turn = np.linspace(0, math.tau, 200)
    axes.plot(*(NEARBY.max_distance * np.array([np.cos(turn), np.sin(turn)])), color=FAINT, lw=.8, ls=':')
    asked, shown = near(frame), []
    for item in frame.objects:
        if max(map(abs, item.centre[:2])) < REACH:
            outline = box_corners(item.centre, item.size, item.yaw)[:4, :2]
            axes.fill(-outline[:, 1], outline[:, 0], facecolor='none', edgecolor=COLOURS[item.category],
                      lw=1.6 if item in asked else .7, ls='-' if item in asked else ':')
            shown.append(item.category)
    name = next((name for name in (LIDAR, CAMERA) if name in tokens), '')
    for found in found_objects(tokens[name]) if name else []:
        if found.probability >= LEAST:
            x, y = found.place
            axes.plot(-y, x, marker='o', ms=4 + 5 * found.probability, color=COLOURS[found.category],
                      mec='black' if found.moves > .5 else 'white', mew=1.5)
            shown.append(found.category)
    for category in sorted(set(shown)):
        axes.plot([], [], color=COLOURS[category], lw=3, label=category)
    axes.plot([], [], marker='o', ls='', color=FAINT, mec='white', label=f'found by {sensors([name])}')
    axes.plot([], [], marker='o', ls='', color=FAINT, mec='black', mew=1.5, label='... and it moves')
    axes.plot([], [], color=FAINT, lw=1.6, label='annotated box')
    axes.plot([], [], color=FAINT, lw=.8, ls=':', label='... not asked about')
    axes.legend(fontsize=7.5, loc='lower left', framealpha=.9, ncols=2)


def _directions(axes: Axes, frame: KeyFrame, tokens: Mapping[str, ModalityTokens]) -> None:
    """Draw a table of the objects that are counted in each direction, and that are annotated there."""
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(len(RELATIONS) + 2.2, -.8))
    names = [name for name in (CAMERA, LIDAR) if name in tokens]
    columns = dict(zip((*(f'by {sensors([name])}' for name in names), 'annotated'),
                       np.linspace(.45, .95, len(names) + 1), strict=True))
    axes.text(0, -.2, 'Objects within 30 m, this key frame', fontsize=11, color=INK, weight='bold')
    for title, x in columns.items():
        axes.text(x, .75, title, fontsize=9, color=FAINT, ha='right')
    for row, direction in enumerate((*RELATIONS, ''), 1):
        axes.text(0, row + .75, direction or 'all', fontsize=9.5, color=INK)
        told = []
        for name in names:
            there = [item for item in found_objects(tokens[name]) if direction in ('', relation(*item.place))]
            told.append(f'{sum(item.probability for item in there):.1f}')
        told.append(str(sum(direction in ('', relation(*item.centre[:2])) for item in near(frame))))
        for x, text in zip(columns.values(), told, strict=True):
            axes.text(x, row + .75, text, fontsize=9.5, color=INK, ha='right')


def _examples(axes: Axes, exchanges: Sequence[Exchange]) -> None:
    """Draw some right and some wrong answers about the shown key frame."""
    axes.set_axis_off()
    chosen = [*examples(exchanges, True), *examples(exchanges, False)]
    axes.set(xlim=(0, 1), ylim=(17.5, -.6))
    score = Score.of(exchanges)
    axes.text(0, 0, f'Asked about this key frame: {score.right} of {score.asked} right, such as', fontsize=11,
              color=INK, weight='bold')
    for line, exchange in enumerate(chosen):
        colour = RIGHT if exchange.is_right else WRONG
        asked = textwrap.shorten(exchange.question, LONGEST, placeholder=' ...')
        axes.text(0, 1.3 + 2 * line, asked, fontsize=9.5, color=INK)
        truth = 'right' if exchange.is_right else f'true: {exchange.truth}'
        axes.text(.03, 2.15 + 2 * line, f'{exchange.answer or "no answer"}  ({truth})', fontsize=9.5,
                  color=colour)


def _types(axes: Axes, answers: RealAnswers) -> None:
    """Draw bars by type of question and by plugged sensors, with the majority."""
    by_sensors = answers.by_sensors
    first = by_sensors[answers.drive.trials[0]]
    kinds = [kind for kind in (*TYPES, None) if of_type(first, kind)]
    width = .8 / len(by_sensors)
    for number, (plugged, exchanges) in enumerate(by_sensors.items()):
        scores = [Score.of(of_type(exchanges, kind)) for kind in kinds]
        places = np.arange(len(kinds)) + width * (number - (len(by_sensors) - 1) / 2)
        axes.bar(places, [score.percent for score in scores], .9 * width, color=BAR_COLOURS[number],
                 label=sensors(plugged))
        for place, score in zip(places, scores, strict=True):
            axes.text(place, score.percent + 1, f'{score.percent:.0f}', ha='center', fontsize=7.5, color=INK)
    for place, kind in enumerate(kinds):
        axes.plot([place - .45, place + .45], [Score.of(of_type(first, kind)).guess_percent] * 2, color=INK,
                  lw=1.3, ls='--', label='' if place else 'majority')
    axes.text(0, -.42, directions_line(first, answers.away).replace('; ', ';\n'), fontsize=8, color=INK,
              transform=axes.transAxes, va='top')
    axes.set_xticks(range(len(kinds)), [f'{kind or "all"}\n{len(of_type(first, kind))}' for kind in kinds])
    axes.set(ylim=(0, 112), yticks=[])
    many = len(answers.moments)
    axes.text(0, 1.24, f'Right answers, %, {f"all {many} key frames" if many > 1 else "this key frame"}',
              fontsize=11, color=INK, weight='bold', transform=axes.transAxes)
    axes.legend(fontsize=7.5, ncols=5, frameon=False, loc='lower left', bbox_to_anchor=(-.02, 1.),
                handlelength=1.4, columnspacing=.9)
    leave_open(axes)


def _rectangle(corner: tuple[float, float], width: float, height: float, colour: str, style: str,
               line: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, fill=False, edgecolor=colour, linestyle=style, linewidth=line)
