"""The six cameras of the ego vehicle, and pictures of the world from anywhere.

It uses OpenGL, or the software renderer of Mesa without a graphics card.  The same state gives the same bytes
on the same machine.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from types import TracebackType

import numpy as np

from mpnp_world.models.lookup import SIGNAL_HEAD, ModelKey, key_of, model_of, placement
from mpnp_world.models.street import SIGNAL_HEADS
from mpnp_world.scene.state import Colour, Scenery, WorldState
from mpnp_world.sensors.camera import CameraSensor, View, camera_view, looking_view, seen, sun_projection
from mpnp_world.sensors.graphics import Framebuffer, ModelCache, Programs, open_context, shadow_frame, write
from mpnp_world.sensors.lighting import Lighting, head_lights, lighting_of, street_lamps
from mpnp_world.sensors.rig import CAMERAS, EGO_REAR, EGO_SIZE
from mpnp_world.sensors.shaders import MAX_LAMPS, MAX_SPOTS

_LIT, _BRAKING, _SIREN = 1, 2, 4
_SIGNAL_BITS = {'red': 8, 'yellow': 16, 'green': 32}

_VISIBLE = {'pedestrian': 110.0, 'child': 110.0, 'cone': 80.0, 'barrier': 120.0, 'bicycle': 110.0,
            'motorcycle': 120.0, 'bench': 80.0, 'tree': 160.0, 'lamp': 160.0, 'building': 420.0}
_VISIBLE_OTHERWISE = 220.0
"""Drawing distance of other kinds, metres."""
_DRAWN_LAST = ('tree', 'lamp', 'signal_pole', 'building')

Row = tuple[ModelKey, np.ndarray]

SHADOW_REACH = 55.0
"""Radius around the ego vehicle within which things cast shadows, metres."""
_HALO = 0.35
_LIGHT_REACH = 15.0
_ON_GROUND = np.array([[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 1, 1, 0]], np.float32)


@dataclass(frozen=True, eq=False)
class Instances:
    """Instances, grouped by model.

    slices: rows of each model.  rows: [N, 16]: the first three rows of the pose [4, 4], colour, and lights as
    bits.  radii: [N], bounding radius around the origin, metres; reach: [N], drawing distance, metres.
    """

    slices: dict[ModelKey, slice]
    rows: np.ndarray
    radii: np.ndarray
    reach: np.ndarray

    @classmethod
    def of_state(cls, state: WorldState, with_ego: bool = False) -> Instances:
        """The instances of moving and changing things."""
        rows = [(key_of(thing), _row(thing.x, thing.y, thing.z, thing.yaw, thing.size, thing.colour,
                                     _LIT * thing.lights + _BRAKING * thing.braking + _SIREN * thing.siren))
                for thing in state.objects]
        for signal in state.signals:
            for left, up in SIGNAL_HEADS:
                x, y = signal.x - left * math.sin(signal.yaw), signal.y + left * math.cos(signal.yaw)
                rows.append(((SIGNAL_HEAD, 0, 0), _row(x, y, up, signal.yaw, (1, 1, 1), (1, 1, 1),
                                                       _SIGNAL_BITS[signal.colour])))
        if with_ego:
            ego, ahead = state.ego, EGO_SIZE[0] / 2 - EGO_REAR
            x, y = ego.x + ahead * math.cos(ego.yaw), ego.y + ahead * math.sin(ego.yaw)
            rows.append((('hatchback', 0, 0), _row(x, y, 0, ego.yaw, EGO_SIZE, (0.9, 0.9, 0.92), _LIT)))
        return cls._grouped(rows)

    @classmethod
    def of_scenery(cls, scenery: Scenery) -> Instances:
        """The instances of static things."""
        return cls._grouped([((fixture.kind, 0, 0), _row(fixture.x, fixture.y, fixture.z, fixture.yaw,
                                                         fixture.size, fixture.colour, 0))
                             for fixture in scenery.fixtures])

    @classmethod
    def _grouped(cls, rows: list[Row]) -> Instances:
        rows = sorted(rows, key=lambda row: (_rank(row[0]), row[0]))
        slices = {key: slice(group[0], group[-1] + 1) for key, group in
                  ((key, [index for index, _ in group]) for key, group in
                   groupby(enumerate(rows), key=lambda item: item[1][0]))}
        table = np.array([row for _, row in rows], np.float32).reshape(-1, 16)
        extents = np.array([_extent(key) for key, _ in rows]).reshape(-1, 3)
        scales = np.linalg.norm(table[:, :12].reshape(-1, 3, 4)[:, :, :3], axis=1)
        reach = np.array([_VISIBLE.get(key[0], _VISIBLE_OTHERWISE) for key, _ in rows])
        return cls(slices, table, np.linalg.norm(scales * extents, axis=1), reach)

    def __add__(self, other: Instances) -> Instances:
        """The union of both, which must have different models."""
        moved = {key: slice(part.start + len(self.rows), part.stop + len(self.rows))
                 for key, part in other.slices.items()}
        slices = dict(sorted((self.slices | moved).items(), key=lambda item: _rank(item[0])))
        return Instances(slices, np.concatenate([self.rows, other.rows]),
                         np.concatenate([self.radii, other.radii]), np.concatenate([self.reach, other.reach]))

    def visible(self, projection: np.ndarray, eye: np.ndarray) -> Iterator[tuple[ModelKey, np.ndarray]]:
        """Models and rows in the view of a projection [4, 4] from `eye` [3], the nearest first.

        Small things come first, so that hidden fragments need no shading.
        """
        places = self.rows[:, [3, 7, 11]]
        distance = np.linalg.norm(places - eye, axis=1)
        inside = seen(projection, places, self.radii) & (distance - self.radii < self.reach + abs(eye[2]))
        for key, part in self.slices.items():
            chosen = part.start + np.flatnonzero(inside[part])
            if len(chosen):
                yield key, self.rows[chosen[np.argsort(distance[chosen], kind='stable')]]


def _rank(key: ModelKey) -> int:
    """Position in the drawing order."""
    return _DRAWN_LAST.index(key[0]) + 1 if key[0] in _DRAWN_LAST else 0


@cache
def _extent(key: ModelKey) -> np.ndarray:
    """Extent of a model from its origin along each axis, [3]."""
    low, high = model_of(*key).bounds
    return np.maximum(np.abs(low), np.abs(high))


def _row(x: float, y: float, z: float, yaw: float, size: tuple[float, float, float], colour: Colour,
         bits: int) -> np.ndarray:
    return np.concatenate([placement(x, y, z, yaw, size)[:3].ravel(), colour, [bits]])


class Renderer:
    """Renders states of the world.  width, height: of camera images, pixels.

    Raises WorldError without OpenGL.  Use one per thread, as a context manager or with :meth:`close`.
    """

    def __init__(self, width: int = 400, height: int = 225, supersampling: int = 2) -> None:
        self.width, self.height, self._supersampling = width, height, supersampling
        self._context = open_context()
        with self._context:
            self._programs = Programs(self._context)
            self._models = ModelCache(self._context)
            self._shadow_map, self._shadow_frame = shadow_frame(self._context)
            corners = self._context.buffer(np.array([-1, -1, 3, -1, -1, 3], 'f4').tobytes())
            self._screens = {program: self._context.vertex_array(program, [(corners, '2f', 'corner')])
                             for program in (self._programs.sky, self._programs.blur, self._programs.develop)}
        self._framebuffers: dict[tuple[int, int], Framebuffer] = {}
        self._still: tuple[Scenery, Instances] | None = None

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the graphics memory."""
        self._context.release()

    def render(self, state: WorldState) -> dict[str, np.ndarray]:
        """The images of all cameras by channel, uint8 [height, width, 3] RGB, with noise and rain."""
        views = [camera_view(mounting, state.ego) for mounting in CAMERAS.values()]
        images = self._draw(state, views, self.width, self.height)
        images = CameraSensor(state.conditions).expose(images, state.seed, state.time)
        return dict(zip(CAMERAS, images, strict=True))

    def render_view(self, state: WorldState, eye: Sequence[float], target: Sequence[float], width: int,
                    height: int) -> np.ndarray:
        """An image [height, width, 3] uint8 RGB with the ego vehicle; eye, target: metres."""
        view = looking_view(eye, target, width / height)
        return self._draw(state, [view], width, height, with_ego=True)[0]

    def _draw(self, state: WorldState, views: Sequence[View], width: int, height: int,
              with_ego: bool = False) -> np.ndarray:
        """Images [views, height, width, 3] uint8 without noise."""
        with self._context:
            lighting = lighting_of(state.seed, state.conditions)
            if self._still is None or self._still[0] is not state.scenery:
                self._still = state.scenery, Instances.of_scenery(state.scenery)
            instances = Instances.of_state(state, with_ego) + self._still[1]
            self._begin(state, lighting, instances)
            sheet = self._context.simple_framebuffer((width, height * len(views)), 4)
            if (width, height) not in self._framebuffers:
                self._framebuffers[width, height] = Framebuffer(self._context, width, height,
                                                                self._supersampling)
            framebuffer = self._framebuffers[width, height]
            lights = head_lights(state), street_lamps(state.scenery)
            lights[0][:, 5] *= lighting.darkness
            lights[1][:, 3] *= lighting.darkness
            if not lighting.darkness:
                lights = lights[0][:0], lights[1][:0]
            for index, view in enumerate(views):
                self._draw_view(view, framebuffer, state, lighting, instances, lights)
                self._develop(framebuffer, lighting)
                sheet.use()
                sheet.viewport = 0, index * height, width, height
                self._screens[self._programs.develop].render()
            pixels = np.frombuffer(sheet.read(components=3, alignment=1,
                                              viewport=(0, 0, width, height * len(views))), np.uint8)
            for attachment in (*sheet.color_attachments, sheet.depth_attachment, sheet):
                attachment.release()
        return pixels.reshape(len(views), height, width, 3)

    def _begin(self, state: WorldState, lighting: Lighting, instances: Instances) -> None:
        """Set the uniforms of all views and draw the shadow map."""
        middle = np.array((state.ego.x + 10 * np.cos(state.ego.yaw), state.ego.y + 10 * np.sin(state.ego.yaw),
                           0))
        sun_view = sun_projection(middle, lighting.sun_direction, SHADOW_REACH)
        for program in self._programs.models(lighting.shadows).values():
            write(program, sun_direction=lighting.sun_direction, sun=lighting.sun, sky=lighting.zenith,
                  bounce=lighting.bounce, haze=lighting.horizon, haze_density=lighting.haze_density,
                  darkness=lighting.darkness, wetness=lighting.wetness, blink=float(state.time % 0.5 < 0.25),
                  shadow_view=sun_view)
        write(self._programs.sky, zenith=lighting.zenith, horizon=lighting.horizon, glow=lighting.glow,
              sun_direction=lighting.sun_direction, clouds=lighting.clouds, drift=lighting.drift)
        if not lighting.shadows:
            return
        self._context.enable_only(self._context.DEPTH_TEST)
        self._shadow_frame.use()
        self._shadow_frame.clear(depth=1.0)
        write(self._programs.shadow, view=sun_view)
        self._context.polygon_offset = 2.0, 4.0
        for key, rows in instances.visible(sun_view, middle):
            self._models.model(key).draw(self._programs.shadow, rows)
        self._context.polygon_offset = 0.0, 0.0

    def _draw_view(self, view: View, framebuffer: Framebuffer, state: WorldState, lighting: Lighting,
                   instances: Instances, lights: tuple[np.ndarray, np.ndarray]) -> None:
        """Draw one view in linear light.  lights: head lights [N, 6] and street lamps [M, 4] that are on."""
        framebuffer.frame.use()
        framebuffer.frame.clear(depth=1.0)
        self._context.enable_only(self._context.DEPTH_TEST | self._context.CULL_FACE)
        self._context.front_face = 'cw'  # image rows run downwards
        self._shadow_map.use(0)
        programs, projection = self._programs.models(lighting.shadows), view.projection
        visible_lights = _visible_lights(view, projection, *lights)
        for program in programs.values():
            write(program, view=projection, eye=tuple(view.eye), **visible_lights)
        for key, rows in instances.visible(projection, view.eye):
            self._models.model(key).draw(programs['wall' if key[0] == 'building' else 'thing'], rows)
        self._models.ground(state.scenery).draw(programs['ground'], _ON_GROUND)
        self._context.enable_only(self._context.DEPTH_TEST)
        self._context.depth_func = '<='
        write(self._programs.sky, rotation=view.rotation, lens=view.lens)
        self._screens[self._programs.sky].render()
        self._context.depth_func = '<'

    def _develop(self, framebuffer: Framebuffer, lighting: Lighting) -> None:
        """Blur bright areas into halos and set the uniforms of development."""
        self._context.enable_only(0)
        blur = self._programs.blur
        for step in range(4 if lighting.darkness else 0):
            framebuffer.halo_frames[step % 2].use()
            (framebuffer.halos[1 - step % 2] if step else framebuffer.light).use(0)
            spread = 1 + step // 2
            halo = framebuffer.halos[0]
            across, up = (spread / halo.width, 0.0), (0.0, spread / halo.height)
            write(blur, direction=up if step % 2 else across, threshold=0.0 if step else 0.8)
            self._screens[blur].render()
        framebuffer.light.use(0)
        framebuffer.halos[1].use(1)
        write(self._programs.develop, exposure=lighting.exposure, halo_share=_HALO * bool(lighting.darkness))


def _visible_lights(view: View, projection: np.ndarray, spots: np.ndarray,
                    lamps: np.ndarray) -> dict[str, object]:
    """The nearest lights that affect a view, as uniforms."""
    middles = spots[:, :3] + np.column_stack([14 * spots[:, 3:5], np.zeros(len(spots))])
    spots = _nearest(spots[seen(projection, middles, _LIGHT_REACH)], view.eye, MAX_SPOTS)
    lamps = _nearest(lamps[seen(projection, lamps[:, :3], _LIGHT_REACH)], view.eye, MAX_LAMPS)
    return {'spots': len(spots), 'lamps': len(lamps),
            'spot_place': _padded(spots[:, [0, 1, 2, 5]], MAX_SPOTS).T,
            'spot_heading': _padded(spots[:, 3:5], MAX_SPOTS).T, 'lamp_place': _padded(lamps, MAX_LAMPS).T}


def _nearest(lights: np.ndarray, eye: np.ndarray, count: int) -> np.ndarray:
    order = np.argsort(np.linalg.norm(lights[:, :2] - eye[:2], axis=1), kind='stable')
    return lights[order[:count]]


def _padded(rows: np.ndarray, count: int) -> np.ndarray:
    """Rows filled up with zeros to [count, 4]."""
    padded = np.zeros((count, 4), np.float32)
    padded[:len(rows), :rows.shape[1]] = rows
    return padded
