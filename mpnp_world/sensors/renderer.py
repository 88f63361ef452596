"""The six cameras of the ego vehicle, and pictures of the world from anywhere.

It uses OpenGL, or the software renderer of Mesa without a graphics card.  The same state gives the same bytes
on the same machine.
"""
from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import numpy as np

from mpnp_world.scene.state import Scenery, WorldState
from mpnp_world.sensors.camera_sensor import CameraSensor
from mpnp_world.sensors.graphics import Framebuffer, ModelCache, Programs, open_context, shadow_frame, write
from mpnp_world.sensors.instances import Instances
from mpnp_world.sensors.lighting import Lighting, head_lights, lighting_of, street_lamps
from mpnp_world.sensors.rig import CAMERAS
from mpnp_world.sensors.shaders import MAX_LAMPS, MAX_SPOTS
from mpnp_world.sensors.views import View, camera_view, looking_view, seen, sun_projection

SHADOW_REACH = 55.0
"""Radius around the ego vehicle within which things cast shadows, metres."""
_HALO = 0.35
_LIGHT_REACH = 15.0
_ON_GROUND = np.array([[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 1, 1, 0]], np.float32)


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
            instances = self._instances(state, with_ego)
            self._begin(state, lighting, instances)
            sheet = self._context.simple_framebuffer((width, height * len(views)), 4)
            framebuffer = self._framebuffer(width, height)
            lights = self._lights(state, lighting)
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

    def _framebuffer(self, width: int, height: int) -> Framebuffer:
        if (width, height) not in self._framebuffers:
            self._framebuffers[width, height] = Framebuffer(self._context, width, height, self._supersampling)
        return self._framebuffers[width, height]

    def _instances(self, state: WorldState, with_ego: bool) -> Instances:
        """All instances of a state; static ones are cached."""
        if self._still is None or self._still[0] is not state.scenery:
            self._still = state.scenery, Instances.of_scenery(state.scenery)
        return Instances.of_state(state, with_ego) + self._still[1]

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
        if lighting.shadows:
            self._draw_shadows(sun_view, middle, instances)

    def _draw_shadows(self, sun_view: np.ndarray, middle: np.ndarray, instances: Instances) -> None:
        self._context.enable_only(self._context.DEPTH_TEST)
        self._shadow_frame.use()
        self._shadow_frame.clear(depth=1.0)
        write(self._programs.shadow, view=sun_view)
        self._context.polygon_offset = 2.0, 4.0
        for key, rows in instances.visible(sun_view, middle):
            self._models.model(key).draw(self._programs.shadow, rows)
        self._context.polygon_offset = 0.0, 0.0

    def _lights(self, state: WorldState, lighting: Lighting) -> tuple[np.ndarray, np.ndarray]:
        """Head lights [N, 6] and street lamps [M, 4] that are on."""
        spots, lamps = head_lights(state), street_lamps(state.scenery)
        keep = slice(None) if lighting.darkness else slice(0)
        spots[:, 5] *= lighting.darkness
        lamps[:, 3] *= lighting.darkness
        return spots[keep], lamps[keep]

    def _draw_view(self, view: View, framebuffer: Framebuffer, state: WorldState, lighting: Lighting,
                   instances: Instances, lights: tuple[np.ndarray, np.ndarray]) -> None:
        """Draw one view in linear light."""
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


def _visible_lights(view: View, projection: np.ndarray, spots: np.ndarray, lamps: np.ndarray) -> dict[str,
                                                                                                      object]:
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
