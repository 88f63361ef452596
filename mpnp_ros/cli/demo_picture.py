"""The demo as one picture: six cameras, the sweep from above, the answers and what they rest on."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mpnp_ros.cli.demo_learning import Evidence
from mpnp_ros.cli.demo_live import Interview
from mpnp_ros.cli.demo_scene import DemoScene
from mpnp_ros.nuscenes.categories import CATEGORIES
from mpnp_ros.nuscenes.geometry import box_corners
from mpnp_ros.nuscenes.pointclouds import read_lidar

if TYPE_CHECKING:
    from matplotlib.axes import Axes

VIEWS = (('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT'), ('CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT'))
WIDTH, REACH = 480, 40.
RIGHT, WRONG, INK, FAINT = '#1a7f37', '#cf222e', '#1f2328', '#8c959f'


def draw(scene: DemoScene, evidence: Evidence, interviews: Sequence[Interview], path: Path) -> Path:
    """Write the picture as a PNG and return its path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 10), dpi=100, facecolor='white')
    grid = figure.add_gridspec(4, 4, height_ratios=(1, 1, .95, .95), left=.02, right=.985, top=.94,
                               bottom=.05, wspace=.06, hspace=.12)
    for row, names in enumerate(VIEWS):
        for column, name in enumerate(names):
            _camera(figure.add_subplot(grid[row, column]), scene, name)
    _sweep(figure.add_subplot(grid[:2, 3]), scene)
    _answers(figure.add_subplot(grid[2:, :3]), interviews[0])
    _evidence(figure.add_subplot(grid[2:, 3]), evidence)
    figure.suptitle(f'mpnp_ros: {scene.title}', x=.02, ha='left', fontsize=13, color=INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path)
    return path


def _camera(axes: Axes, scene: DemoScene, name: str) -> None:
    axes.set_axis_off()
    reading = scene.frame.cameras.get(name)
    if reading is None:
        axes.text(.5, .5, f'no {name.lower()}', ha='center', color=FAINT)
        return
    with Image.open(reading.path) as image:
        image.draft('RGB', (WIDTH, WIDTH))
        axes.imshow(image.convert('RGB').resize((WIDTH, WIDTH * image.height // image.width)))
    axes.text(.015, .96, name.lower(), transform=axes.transAxes, va='top', color='white', fontsize=9,
              bbox={'facecolor': 'black', 'alpha': .55, 'pad': 2, 'linewidth': 0})


def _sweep(axes: Axes, scene: DemoScene) -> None:
    """The LiDAR points and the annotated boxes from above, the vehicle's heading up."""
    from matplotlib import colormaps

    axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), xticks=[], yticks=[], aspect='equal')
    axes.set_title('lidar_top and annotations, heading up', fontsize=10, color=INK, loc='left')
    lidar = scene.frame.lidar
    if lidar is not None:
        points = lidar.extrinsics.apply(read_lidar(lidar.path)[:, :3].astype(float))
        axes.scatter(-points[:, 1], points[:, 0], s=.4, c=np.clip(points[:, 2], -1, 4), cmap='Greys_r',
                     linewidths=0)
    colours = dict(zip(CATEGORIES, colormaps['tab10'].colors, strict=True))
    shown = [item for item in scene.frame.objects if max(map(abs, item.centre[:2])) < REACH]
    for item in shown:
        outline = box_corners(item.centre, item.size, item.yaw)[:, :2]
        outline = outline[_around(outline)]
        axes.fill(-outline[:, 1], outline[:, 0], facecolor='none', edgecolor=colours[item.category], lw=1.2)
    for name in sorted({item.category for item in shown}):
        axes.plot([], [], color=colours[name], lw=2, label=name)
    axes.plot(0, 0, marker='^', color=INK, ms=8)
    axes.legend(fontsize=7.5, loc='lower left', framealpha=.85, ncols=2)


def _around(corners: np.ndarray) -> np.ndarray:
    """Order of the four ground corners around the box; [8, 2] corners hold each of them twice."""
    distinct = np.unique(corners.round(6), axis=0, return_index=True)[1]
    offset = corners[distinct] - corners[distinct].mean(0)
    return distinct[np.argsort(np.arctan2(offset[:, 1], offset[:, 0]))]


def _answers(axes: Axes, interview: Interview) -> None:
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(len(interview.exchanges) + 1.4, -.6))
    axes.text(0, -.2, f'Asked on ROS topics about the frame that was trained on: {interview.right} of '
                      f'{len(interview.exchanges)} right', fontsize=11, color=INK, weight='bold')
    columns = ((0, 'question'), (.6, 'answer'), (.79, 'truth'), (.93, 'latency'))
    for x, name in columns:
        axes.text(x, .8, name, fontsize=9, color=FAINT)
    for line, exchange in enumerate(interview.exchanges):
        answer, y = exchange.answer, line + 1.8
        texts = (answer.question, f'{answer.text}  ({answer.confidence:.2f})', exchange.truth,
                 f'{1e3 * answer.latency:.0f} ms')
        for (x, name), text in zip(columns, texts, strict=True):
            colour = (RIGHT if exchange.is_right else WRONG) if name == 'answer' else INK
            axes.text(x, y, text, fontsize=9.5, color=colour, clip_on=False)


def _evidence(axes: Axes, evidence: Evidence) -> None:
    """Bars of accuracy by what the answers could see."""
    names = list(evidence.trained)
    places = 1.3 * np.arange(len(names))
    for offset, rows, colour, label in ((-.2, evidence.trained, '#9ecae1', 'trained headings'),
                                        (.2, evidence.held_out, '#08519c', 'held-out headings')):
        values = [100 * rows[name] for name in names]
        axes.barh(places + offset, values, .38, color=colour, label=label)
        for place, value in zip(places, values, strict=True):
            axes.text(value + 1, place + offset, f'{value:.0f}', va='center', fontsize=8, color=INK)
    axes.set(yticks=[], xlim=(0, 118), ylim=(places[-1] + .6, -.9), xticks=[])
    for place, name in zip(places, names, strict=True):
        axes.text(0, place - .48, name, fontsize=8.5, color=INK)
    axes.set_title('What the answers rest on (right answers, %)', fontsize=10, color=INK, loc='left')
    axes.legend(fontsize=8, loc='upper center', bbox_to_anchor=(.5, .02), ncols=2, frameon=False)
    for side in axes.spines.values():
        side.set_visible(False)
