"""Key frames of a scene and sweeps between them, as the ego vehicle perceives them."""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from mpnp_ros.questions.key_frame import KeyFrame
from mpnp_world.dataset.annotations import Annotation, annotate, seen
from mpnp_world.scene.identity import Conditions, SceneIdentity
from mpnp_world.scene.state import WorldState
from mpnp_world.scene.world import World
from mpnp_world.sensors.imu import InertialReading, inertial_readings
from mpnp_world.sensors.lidar import LidarSweep, sweep
from mpnp_world.sensors.lidar_models import HDL_32E, LidarModel
from mpnp_world.sensors.microphones import listen
from mpnp_world.sensors.radar import RadarSweep, radar_sweeps
from mpnp_world.sensors.rays import Rays
from mpnp_world.sensors.rig import RATES
from mpnp_world.sensors.visibility import point_counts, visibility

STEP = 0.1
"""Seconds between simulated states, used for inertial readings and sound."""
TOLERANCE = 1e-6
"""Seconds; closer moments are one."""
SUPERSAMPLED_WIDTH = 600
"""Images narrower than this are rendered with twofold supersampling."""


@dataclass(frozen=True, eq=False)
class WorldFrame:
    """A key frame of the world.

    index: from 0.  images: uint8 [H, W, 3] by camera, empty without cameras.  sweep, radars: always
    present, because boxes have numbers of points.  inertial, sound (float32 [microphones, samples], -1..1):
    since the previous key frame, if requested.
    """

    index: int
    state: WorldState
    images: Mapping[str, np.ndarray]
    sweep: LidarSweep
    radars: Mapping[str, RadarSweep]
    annotations: tuple[Annotation, ...]
    inertial: tuple[InertialReading, ...] = ()
    sound: np.ndarray | None = None

    def key_frame(self, identity: SceneIdentity) -> KeyFrame:
        """The key frame with true objects in the ego frame, like one of a nuScenes root.

        It has no sensor readings, because there are no files.
        """
        ego = self.state.ego
        objects = seen(self.annotations, ego, lambda number: identity.token('instance', number))
        return KeyFrame(
            token=identity.token('sample', self.index), scene=identity.name,
            description=identity.description, stamp_ns=identity.stamp(self.state.time) * 1000,
            ego_pose=ego.pose, cameras={}, lidar=None, radars={}, objects=objects)


@dataclass(frozen=True, eq=False)
class WorldSweeps:
    """What some sensors perceive at a moment between key frames.

    index: of the key frame that follows.  images, sweep, radars: as of a key frame; empty or None for sensors
    without a sweep at this moment.
    """

    index: int
    state: WorldState
    images: Mapping[str, np.ndarray]
    sweep: LidarSweep | None
    radars: Mapping[str, RadarSweep]


@dataclass(frozen=True)
class SweepPlan:
    """Which sensors have sweeps between key frames, and when.

    names: modalities of :data:`~mpnp_world.sensors.rig.RATES`.  seconds: of them before each key frame.
    rates: sweeps per second by modality.
    """

    names: Collection[str]
    seconds: float
    rates: Mapping[str, float] = field(default_factory=lambda: RATES)

    def moments(self, interval: float) -> dict[float, set[str]]:
        """Modalities by seconds since the previous key frame, in time order.

        Each has its rate, counted back from the key frame that follows.  Moments do not depend on the names,
        so that other sensors change no rounding.
        """
        moments: dict[float, set[str]] = defaultdict(set)
        for modality, rate in self.rates.items():
            for number in range(1, int((min(self.seconds, interval) + TOLERANCE) * rate) + 1):
                if interval - number / rate > TOLERANCE:
                    moments[round(interval - number / rate, 6)] |= {modality} & set(self.names)
        return dict(sorted(moments.items()))


class Sensors:
    """Cameras, LiDAR and radars of a vehicle; use one per process, because it owns the renderer.

    names: modalities; only ``camera`` has an effect.  size: width, height of images, pixels.
    """

    def __init__(self, names: Collection[str], size: tuple[int, int]) -> None:
        self._rays = Rays()
        self._renderer = None
        if 'camera' in names:
            from mpnp_world.sensors.renderer import Renderer

            self._renderer = Renderer(*size, supersampling=2 if size[0] < SUPERSAMPLED_WIDTH else 1)

    def perceive(self, state: WorldState, index: int, lidar: LidarModel = HDL_32E) -> WorldFrame:
        """The sensor data of a state as key frame number ``index`` of its scene."""
        images = self._renderer.render(state) if self._renderer else {}
        shares = visibility(state, self._rays)
        points = sweep(state, self._rays, index, lidar)
        radars = radar_sweeps(state, self._rays, shares)
        boxes = annotate(state, shares, point_counts([points.identities]),
                         point_counts([radar.identities for radar in radars.values()]))
        return WorldFrame(index, state, images, points, radars, boxes)

    def perceive_sweeps(self, state: WorldState, index: int, names: Collection[str],
                        lidar: LidarModel = HDL_32E) -> WorldSweeps:
        """The sweeps of the modalities ``names`` before key frame number ``index`` of its scene."""
        images = self._renderer.render(state) if self._renderer and 'camera' in names else {}
        moment = round(state.time * 1e6)
        points = sweep(state, self._rays, moment, lidar) if 'lidar' in names else None
        radars = radar_sweeps(state, self._rays, visibility(state, self._rays)) if 'radar' in names else {}
        return WorldSweeps(index, state, images, points, radars)


def scene_frames(seed: int, conditions: Conditions, key_frames: int, interval: float, names: Collection[str],
                 sensors: Sensors, sweeps: SweepPlan | None = None,
                 lidar: LidarModel = HDL_32E) -> Iterator[WorldFrame | WorldSweeps]:
    """The key frames of a scene, one every ``interval`` seconds, the first after one interval.

    names: of the requested sensors, optionally with ``imu`` and ``microphones``.  sweeps: to yield before
    each key frame, in time order.
    """
    world = World(seed, conditions)
    recorder = Recorder(names)
    for index in range(key_frames):
        recorder.note(world)
        for swept in steps_of(world, interval, sweeps):
            if swept is None:
                recorder.note(world)
            elif swept:
                yield sensors.perceive_sweeps(world.state(), index, swept, lidar)
        inertial, sound = recorder.take()
        yield replace(sensors.perceive(world.state(), index, lidar), inertial=inertial, sound=sound)


def steps_of(world: World, interval: float,
             sweeps: SweepPlan | None = None) -> Iterator[Collection[str] | None]:
    """Simulate up to the next key frame; yield None after every STEP, and the modalities of sweeps between.

    The same plan gives the same steps, and so the same rounding and the same traffic.
    """
    steps = max(1, round(interval / STEP))
    moments = sweeps.moments(interval) if sweeps else {}
    for number in range(steps):
        begin, done = number * interval / steps, 0.0
        for moment in (moment for moment in moments
                       if TOLERANCE < moment - begin <= interval / steps + TOLERANCE):
            world.step(moment - begin - done)
            done = moment - begin
            yield moments[moment]
        world.step(interval / steps - done)
        yield None


class Recorder:
    """Collects inertial readings and sound between key frames.  names: of the requested sensors."""

    def __init__(self, names: Collection[str]) -> None:
        self._has_imu, self._has_microphones = 'imu' in names, 'microphones' in names
        self._before: WorldState | None = None
        self._inertial: list[InertialReading] = []
        self._sound: list[np.ndarray] = []

    def note(self, world: World) -> None:
        """Record the time since the previous call."""
        if not (self._has_imu or self._has_microphones):
            return
        state = world.state()
        if self._before is not None and state.time > self._before.time:
            if self._has_imu:
                self._inertial += inertial_readings(self._before, state)
            if self._has_microphones:
                self._sound.append(listen(self._before, state))
        self._before = state

    def take(self) -> tuple[tuple[InertialReading, ...], np.ndarray | None]:
        """Inertial readings and sound, float32 [microphones, samples], since the last call."""
        inertial, sound = tuple(self._inertial), self._sound
        self._inertial, self._sound = [], []
        return inertial, np.concatenate(sound, 1) if sound else None
