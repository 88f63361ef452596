"""The demo as pictures: the drive by day and at night, and the real key frame."""
from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mpnp_ros.cli.demo_drive import BOTH, Drive, Exchange, Moment, Score, sensors
from mpnp_ros.cli.demo_scene import RealScene
from mpnp_ros.cli.demo_tables import TYPES, examples, of_type, score_cells
from mpnp_ros.nuscenes.categories import CATEGORIES
from mpnp_ros.nuscenes.geometry import box_corners
from mpnp_ros.nuscenes.pointclouds import read_lidar, read_sensor_file
from mpnp_ros.world.rig import LIDAR as WORLD_LIDAR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AHEAD = ('cam_front_left', 'cam_front', 'cam_front_right')
BEHIND = ('cam_back_left', 'cam_back', 'cam_back_right')
WIDTH, DPI = 480, 100
NEAR, FAR = 27., 40.
"""Metres shown from above to either side, of the world's narrow streets and of real ones."""
RIGHT, WRONG, INK, FAINT = '#1a7f37', '#cf222e', '#1f2328', '#6e7781'
SKY = {'day': '#fff8db', 'dusk': '#f6dcc8', 'night': '#d5dced'}
BAR_COLOURS = ('#1a7f37', '#e3a008', '#0969da')


def draw_drive(drive: Drive, path: Path) -> Path:
    """Write the picture of the drive as a PNG and return its path."""
    figure = _figure((16, 11.6))
    grid = figure.add_gridspec(4, 12, height_ratios=(1, .36, 1, .36), left=.02, right=.985, top=.95,
                               bottom=.4, wspace=.12, hspace=.06)
    for row, light in ((0, 'day'), (2, 'night')):
        moment = _fullest(drive, light)
        for column, name in enumerate(AHEAD):
            axes = figure.add_subplot(grid[row, 3 * column:3 * column + 3])
            _image(axes, moment.sight.images.get(name) if moment else None, name)
        above = figure.add_subplot(grid[row, 9:])
        points = WORLD_LIDAR.pose.apply(moment.sight.points) if moment else np.zeros((0, 3))
        _sweep(above, points, NEAR, NEAR * 9 / 16)
        _talk(figure.add_subplot(grid[row + 1, :]), light, moment)
    _course(figure.add_axes((.05, .055, .51, .28)), drive)
    _phases(figure.add_axes((.59, .055, .395, .3)), drive)
    figure.suptitle('mpnp_ros: a drive through the embedded world, from day into night and back',
                    x=.02, ha='left', fontsize=14, color=INK)
    return _write(figure, path)


def draw_key_frame(scene: RealScene, answers: Mapping[tuple[str, ...], Sequence[Exchange]],
                   path: Path) -> Path:
    """Write the picture of the real key frame as a PNG and return its path."""
    figure = _figure((16, 10))
    grid = figure.add_gridspec(3, 4, height_ratios=(1, 1, 1.7), left=.02, right=.985, top=.94, bottom=.05,
                               wspace=.06, hspace=.12)
    for row, names in enumerate((AHEAD, BEHIND)):
        for column, name in enumerate(names):
            reading = scene.frame.cameras.get(name.upper())
            _image(figure.add_subplot(grid[row, column]), read_sensor_file(reading.path) if reading else None,
                   name)
    _annotated_sweep(figure.add_subplot(grid[:2, 3]), scene)
    _examples(figure.add_subplot(grid[2, :2]), answers[BOTH])
    _types(figure.add_subplot(grid[2, 2:]), answers)
    figure.suptitle(f'Real nuScenes, {scene.title}; links that have never seen nuScenes', x=.02, ha='left',
                    fontsize=13, color=INK)
    return _write(figure, path)


def _figure(size: tuple[float, float]) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=DPI, facecolor='white')


def _write(figure: Figure, path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path)
    return path


def _fullest(drive: Drive, light: str) -> Moment | None:
    """The key frame by that light about which most was asked; the first of them."""
    return max((moment for moment in drive.moments if moment.phase.light == light),
               key=lambda moment: (len(moment.exchanges), len(moment.sight.images)), default=None)


def _image(axes: Axes, jpeg: bytes | None, name: str) -> None:
    axes.set_axis_off()
    if jpeg is None:
        axes.text(.5, .5, f'no {name}', ha='center', color=FAINT)
        return
    with Image.open(io.BytesIO(jpeg)) as image:
        image.draft('RGB', (WIDTH, WIDTH))
        axes.imshow(image.convert('RGB').resize((WIDTH, WIDTH * image.height // image.width)))
    axes.text(.015, .96, name, transform=axes.transAxes, va='top', color='white', fontsize=9,
              bbox={'facecolor': 'black', 'alpha': .55, 'pad': 2, 'linewidth': 0})


def _sweep(axes: Axes, points: np.ndarray, reach: float, height: float) -> None:
    """LiDAR points [N, 3] from above, the vehicle's heading up; reach, height: metres to the sides, ahead."""
    axes.set(xlim=(-reach, reach), ylim=(-height, height), xticks=[], yticks=[], aspect='equal')
    axes.scatter(-points[:, 1], points[:, 0], s=.35, c=np.clip(points[:, 2], -1, 4), cmap='viridis',
                 linewidths=0)
    axes.plot(0, 0, marker='^', color=WRONG, ms=7)
    axes.text(.02, .96, 'lidar_top, heading up', transform=axes.transAxes, va='top', fontsize=9, color=INK,
              bbox={'facecolor': 'white', 'alpha': .8, 'pad': 2, 'linewidth': 0})


def _talk(axes: Axes, light: str, moment: Moment | None) -> None:
    """What was asked about a key frame: as many questions as there is room for, right and wrong ones."""
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(4.2, -.2))
    if moment is None:
        axes.text(0, .5, f'The drive had no {light}.', fontsize=10, color=FAINT)
        return
    score = Score.of(moment.exchanges)
    axes.text(0, .3, f'{moment.phase.title} plugged: {score.right} of {score.asked} right about this key '
                     'frame, such as', fontsize=11, color=INK, weight='bold', va='center')
    chosen = [*examples(moment.exchanges, True), *examples(moment.exchanges, False)][:6]
    for place, one in enumerate(chosen):
        colour, told = (RIGHT, '') if one.is_right else (WRONG, f' (true: {one.truth})')
        asked = axes.text(.5 * (place // 3), 1.3 + place % 3, one.question, fontsize=9.5, color=INK,
                          va='center')
        axes.annotate(f'  {one.answer}{told}', (1, .5), xycoords=asked, fontsize=9.5, va='center',
                      weight='bold', color=colour, annotation_clip=False)


def _course(axes: Axes, drive: Drive) -> None:
    """Accuracy over time: key frames as dots, the phase so far as a line, the majority dashed."""
    start = 0.
    for phase in drive.phases:
        moments = [moment for moment in drive.moments if moment.phase is phase and moment.exchanges]
        if not moments:
            continue
        end = moments[-1].seconds
        seconds = [moment.seconds for moment in moments]
        so_far = [Score.of([one for moment in moments[:count + 1] for one in moment.exchanges])
                  for count in range(len(moments))]
        axes.axvspan(start, end, color=SKY[phase.light], lw=0)
        each, line = ([one.percent for one in scores] for scores in (
            [Score.of(moment.exchanges) for moment in moments], so_far))
        axes.plot(seconds, each, 'o', ms=4, color=FAINT, clip_on=False)
        axes.plot([start, *seconds], [line[0], *line], color=RIGHT, lw=2.4)
        axes.plot([start, end], [so_far[-1].guess_percent] * 2, color=INK, lw=1.2, ls='--')
        axes.text((start + end) / 2, 103, f'{phase.light}\n{sensors(phase.plugged)}', ha='center',
                  fontsize=8.5, color=INK, linespacing=1.3)
        start = end
    axes.plot([], [], 'o', ms=4, color=FAINT, label='one key frame')
    axes.plot([], [], color=RIGHT, lw=2.4, label='phase so far')
    axes.plot([], [], color=INK, lw=1.2, ls='--', label='majority (blind)')
    axes.set(xlim=(0, max(start, 1.)), ylim=(0, 100))
    axes.set_xlabel('seconds of the drive', color=INK)
    axes.set_ylabel('right answers, %', color=INK)
    axes.legend(fontsize=8.5, loc='lower right', ncols=3, framealpha=.9)
    _plain(axes)


def _phases(axes: Axes, drive: Drive) -> None:
    """The table of the phases."""
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(len(drive.phases) + 2, -.6))
    columns = dict(zip((0., .13, .56, .68, .83, 1.),
                       ('phase', 'answers rested on', 'right', '%', 'majority %', 'latency'), strict=True))
    for x, name in columns.items():
        axes.text(x, 0, name, fontsize=9.5, color=FAINT, ha='left' if x < .3 else 'right')
    for line, (phase, score) in enumerate(drive.scores(), 1):
        used = ' / '.join(sorted({sensors(one.used) for one in drive.exchanges(phase)}))
        latency = f'{1e3 * score.latency:.0f} ms' if score.asked else ''
        cells = (phase.light, used, *score_cells(score), latency)
        for x, text in zip(columns, cells, strict=True):
            axes.text(x, line, text, fontsize=11, color=INK, ha='left' if x < .3 else 'right')
    axes.text(0, len(drive.phases) + 1.1, 'synthetic world, scenes that nothing was trained on; latency: '
              'median, from question to answer', fontsize=8.5, color=FAINT)


def _annotated_sweep(axes: Axes, scene: RealScene) -> None:
    """The LiDAR points and the annotated boxes from above."""
    from matplotlib import colormaps

    lidar = scene.frame.lidar
    points = (lidar.extrinsics.apply(read_lidar(lidar.path)[:, :3].astype(float)) if lidar
              else np.zeros((0, 3)))
    _sweep(axes, points, FAR, FAR)
    colours = dict(zip(CATEGORIES, colormaps['tab10'].colors, strict=True))
    shown = [item for item in scene.frame.objects if max(map(abs, item.centre[:2])) < FAR]
    for item in shown:
        outline = box_corners(item.centre, item.size, item.yaw)[:4, :2]
        axes.fill(-outline[:, 1], outline[:, 0], facecolor='none', edgecolor=colours[item.category], lw=1.2)
    for name in sorted({item.category for item in shown}):
        axes.plot([], [], color=colours[name], lw=2, label=name)
    axes.legend(fontsize=7.5, loc='lower left', framealpha=.85, ncols=2)


def _examples(axes: Axes, exchanges: Sequence[Exchange]) -> None:
    """Some right and some wrong answers."""
    axes.set_axis_off()
    chosen = [*examples(exchanges, True), *examples(exchanges, False)]
    axes.set(xlim=(0, 1), ylim=(10, -.6))
    score = Score.of(exchanges)
    axes.text(0, 0, f'Camera + LiDAR plugged: {score.right} of {score.asked} right, such as', fontsize=11,
              color=INK, weight='bold')
    for x, name in ((0, 'question'), (.7, 'answer'), (.87, 'truth')):
        axes.text(x, 1, name, fontsize=9, color=FAINT)
    for line, one in enumerate(chosen, 2):
        colour = RIGHT if one.is_right else WRONG
        for x, text, ink in ((0, one.question, INK), (.7, one.answer, colour), (.87, one.truth, INK)):
            axes.text(x, line, text, fontsize=9.5, color=ink)


def _types(axes: Axes, answers: Mapping[tuple[str, ...], Sequence[Exchange]]) -> None:
    """Bars by type of question and by what was plugged."""
    kinds = [kind for kind in (*TYPES, None) if of_type(answers[BOTH], kind)]
    for number, (plugged, exchanges) in enumerate(answers.items()):
        scores = [Score.of(of_type(exchanges, kind)) for kind in kinds]
        places = np.arange(len(kinds)) + .26 * (number - 1)
        axes.bar(places, [score.percent for score in scores], .24, color=BAR_COLOURS[number],
                 label=sensors(plugged))
        for place, score in zip(places, scores, strict=True):
            axes.text(place, score.percent + 1, f'{score.percent:.0f}', ha='center', fontsize=8, color=INK)
    for place, kind in enumerate(kinds):
        score = Score.of(of_type(answers[BOTH], kind))
        axes.plot([place - .4, place + .4], [score.guess_percent] * 2, color=INK, lw=1.2, ls='--',
                  label='' if place else 'majority')
    names = [f'{kind or "all"}\n{len(of_type(answers[BOTH], kind))}' for kind in kinds]
    axes.set_xticks(range(len(kinds)), names)
    axes.set(ylim=(0, 112), yticks=[])
    axes.set_title('right answers by type of question, %', fontsize=10, color=INK, loc='left')
    axes.legend(fontsize=8.5, ncols=4, frameon=False, loc='upper right')
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
