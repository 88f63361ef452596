"""Pictures of the demo: the drive by day and at night, and the real key frame."""
from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mpnp_ros.cli.exchanges import Exchange, Score, interval, of_type
from mpnp_ros.cli.output import UNKNOWN
from mpnp_ros.nuscenes.sensor_files import read_lidar, read_sensor_file
from mpnp_ros.poses import box_corners
from mpnp_ros.questions.vocabulary import CATEGORIES
from mpnp_ros.questions.wording import TYPES
from mpnp_world.demo.drive import BOTH, Drive, DriveMoment, sensors
from mpnp_world.demo.real_scene import RealScene
from mpnp_world.demo.strips import FAINT, INK, LEFT, RIGHT, draw_timeline
from mpnp_world.demo.tables import adaptation_cells, examples, score_cells
from mpnp_world.demo.timeline import adaptations
from mpnp_world.sensors.rig import LIDAR as WORLD_LIDAR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

FRONT = 'cam_front'
AHEAD = ('cam_front_left', FRONT, 'cam_front_right')
BEHIND = ('cam_back_left', 'cam_back', 'cam_back_right')
WIDTH, DPI, CAPTION = 480, 100, 52
NEAR, FAR = 27., 40.
"""Metres shown to either side in views from above, of the simulated streets and of real ones."""
WRONG = '#cf222e'
BAR_COLOURS = ('#1a7f37', '#e3a008', '#0969da')


def draw_drive(drive: Drive, path: Path) -> Path:
    """Write the picture of the drive as a PNG and return its path."""
    figure, canvas = _figure((16, 10))
    for place, light in ((0, 'day'), (1, 'night')):
        moment = _fullest(drive.moments if light == 'day' else drive.moments[::-1], light)
        axes = figure.add_axes((LEFT + .19 * place, .78, .18, .162))
        _image(axes, moment.sight.images.get(FRONT) if moment else None, FRONT)
        _talk(axes, light, moment)
    above = figure.add_axes((LEFT + .38, .78, .18, .162))
    _sweep(above, WORLD_LIDAR.pose.apply(moment.sight.points) if moment else np.zeros((0, 3)), NEAR,
           NEAR * 9 / 16)
    _phases(figure.add_axes((LEFT + .58, .735, .35, .215)), drive)
    draw_timeline(figure, canvas, drive)
    figure.suptitle('mpnp_ros: a drive through the embedded world, from day into night; what it noticed, '
                    'decided and trained by itself', x=LEFT, ha='left', fontsize=13, color=INK)
    return _write(canvas, path)


def draw_key_frame(scene: RealScene, answers: Mapping[tuple[str, ...], Sequence[Exchange]],
                   path: Path) -> Path:
    """Write the picture of the real key frame as a PNG and return its path."""
    figure, canvas = _figure((16, 10))
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
    figure.suptitle(f'Real nuScenes, {scene.title}; links not trained on nuScenes', x=.02, ha='left',
                    fontsize=13, color=INK)
    return _write(canvas, path)


def _figure(size: tuple[float, float]) -> tuple[Figure, FigureCanvasAgg]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI, facecolor='white')
    return figure, FigureCanvasAgg(figure)


def _write(canvas: FigureCanvasAgg, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.print_png(path)
    return path


def _fullest(moments: Sequence[DriveMoment], light: str) -> DriveMoment | None:
    """Return the first key frame in that light with the most questions."""
    return max((moment for moment in moments if moment.phase.light == light),
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
    """Draw LiDAR points [N, 3] from above, heading up; reach, height: metres to the sides, ahead."""
    axes.set(xlim=(-reach, reach), ylim=(-height, height), xticks=[], yticks=[], aspect='equal')
    axes.scatter(-points[:, 1], points[:, 0], s=.35, c=np.clip(points[:, 2], -1, 4), cmap='viridis',
                 linewidths=0)
    axes.plot(0, 0, marker='^', color=WRONG, ms=7)
    axes.text(.02, .96, 'lidar_top, heading up', transform=axes.transAxes, va='top', fontsize=9, color=INK,
              bbox={'facecolor': 'white', 'alpha': .8, 'pad': 2, 'linewidth': 0})


def _talk(axes: Axes, light: str, moment: DriveMoment | None) -> None:
    """Draw a question about a picture below it, if possible one with a right answer."""
    if moment is None or not moment.exchanges:
        said = f'The drive had no {light}.'
    else:
        one = next((one for one in moment.exchanges if one.is_right), moment.exchanges[0])
        said = (f'{textwrap.fill(one.question, CAPTION)}\n{one.answer} '
                f'({"right" if one.is_right else one.truth}; {sensors(one.used)})')
    axes.text(0, -.04, said, transform=axes.transAxes, va='top', fontsize=8.5, color=INK, linespacing=1.3)


def _phases(axes: Axes, drive: Drive) -> None:
    """Draw the table of the phases, and the costs of adaptations."""
    axes.set_axis_off()
    columns = dict(zip((0., .71, .77, .88, 1.), ('phase', 'right', '%', '95 %', 'majority'), strict=True))
    lines = [tuple(columns.values())] + [
        (phase.title, *score_cells(score)[:2], interval(score), score_cells(score)[2])
        for phase, score in drive.scores()]
    for line, cells in enumerate(lines):
        for x, text in zip(columns, cells, strict=True):
            axes.text(x, line, text, fontsize=9, color=INK if line else FAINT, ha='right' if x else 'left')
    below = [_adapted(adaptation_cells(drive, one)) for one in adaptations(drive)]
    for line, text in enumerate(below, len(lines)):
        axes.text(0, line + .3, text, fontsize=8, color=FAINT)
    axes.set(xlim=(0, 1), ylim=(len(lines) + len(below), -.6))


def _adapted(cells: Sequence[str]) -> str:
    """Return a row of the table of adaptations as a line."""
    name, begun, trained, took, steps, compute, memory, *_ = cells
    parts = [f'links in use after {begun}' * (begun != UNKNOWN),
             f'trained after {trained}' * (trained != UNKNOWN),
             f'took {took}, {steps} steps, {compute}, {memory}']
    return f'{name}: {"; ".join(filter(None, parts))}'


def _annotated_sweep(axes: Axes, scene: RealScene) -> None:
    """Draw the LiDAR points and the annotated boxes from above."""
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
    """Return some right and some wrong answers."""
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
    """Draw bars by type of question and by plugged modalities."""
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
