"""Drives with the readings of an IMU and a reference of their motion."""
from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpnp_ros.errors import DatasetError
from mpnp_ros.modalities.imu.axes import rotation_matrices
from mpnp_ros.modalities.imu.channels import BUMP_SPAN, PACE_BORDER, SPEED_BORDERS, TURN_BORDER
from mpnp_ros.modalities.imu.frames import ImuFrame
from mpnp_ros.tokens import SECOND
from mpnp_world.scene.world import World
from mpnp_world.sensors.imu import BUMP_EVERY, BUMP_SPEED, bump, inertial_readings

UNTOLD = -1
"""In place of a class: the reference does not tell."""
COBRA_IMU, COBRA_STATE = '/sensor/vn_100/imu', '/sensor/ins_d/pva'
COBRA_RATE = 100
"""Readings a second of the VN-100; its messages are increments of one period."""
MOVING = 2.0
"""Speed above which the direction of the velocity shows the rotation of a car, metres/second."""
STILL = 0.02
"""Speed below which a car does not turn, metres/second."""


@dataclass(frozen=True, eq=False)
class ImuDrive:
    """A drive.

    times: [N] seconds, of readings: rotation, acceleration [N, 3], orientation [N, 4] (w, x, y, z) or None.
    mount: [3, 3], sensor axes -> x ahead, y left, z up; None: unknown.  reference: [M] seconds, of speed
    [M] metres/second (0 or more) and turning [M] radians/second, left positive, NaN where it is not known.
    bumps: [K] seconds at which bumps begin; None: unknown.
    """

    name: str
    times: np.ndarray
    rotation: np.ndarray
    acceleration: np.ndarray
    orientation: np.ndarray | None
    mount: np.ndarray | None
    reference: np.ndarray
    speed: np.ndarray
    turning: np.ndarray
    bumps: np.ndarray | None = None

    def frame(self, start: float, end: float) -> ImuFrame:
        """Return the readings of some seconds."""
        part = slice(*np.searchsorted(self.times, (start, np.nextafter(end, np.inf))))
        return ImuFrame(self.name, np.round(self.times[part] * SECOND).astype(np.int64), self.rotation[part],
                        self.acceleration[part],
                        None if self.orientation is None else self.orientation[part])

    def truth(self, ends: np.ndarray) -> np.ndarray:
        """Return the motion in the second before each end [S, 4]: speed, turning, pace, bump; NaN: untold."""
        fine = ends[:, None] + np.linspace(-1, 0, 11)
        speed = np.interp(fine, self.reference, self.speed)
        turning = np.interp(fine, self.reference, self.turning)
        bumped = np.full(len(ends), np.nan)
        if self.bumps is not None:
            since = ends[:, None] - self.bumps
            bumped = ((since > 0.1) & (since < BUMP_SPAN)).any(1).astype(np.float64)
        return np.stack([speed.mean(1), turning.mean(1), speed[:, -1] - speed[:, 0], bumped], 1)


def classes(truth: np.ndarray) -> np.ndarray:
    """Return the classes of speed, turn, pace and bump [S, 4] of a truth, UNTOLD where it is NaN.

    They are numbered as in the channels.
    """
    speed, turning, pace, bumped = truth.T
    found = np.stack([
        np.digitize(speed, SPEED_BORDERS),
        np.where(turning > TURN_BORDER, 0, np.where(turning < -TURN_BORDER, 1, 2)),
        np.where(pace < -PACE_BORDER, 0, np.where(pace > PACE_BORDER, 2, 1)),
        np.nan_to_num(bumped)], 1).astype(np.int64)
    found[np.isnan(truth)] = UNTOLD
    return found


def cobra_drive(bag: Path) -> ImuDrive:
    """Read the drive of the PyPI package ``pntos-cobra-datasets-ros``: a car for 43 minutes.

    bag: its .db3 file.  The reference is its inertial navigation system: speed, and the direction of the
    velocity.  Raises DatasetError where it is not that bag.
    """
    with contextlib.closing(sqlite3.connect(f'file:{bag}?mode=ro', uri=True)) as database:
        try:
            readings, states = (list(database.execute(
                'select messages.timestamp, data from messages join topics on topics.id = topic_id '
                'where name = ? order by messages.timestamp', (topic,)))
                for topic in (COBRA_IMU, COBRA_STATE))
        except sqlite3.DatabaseError as error:
            raise DatasetError(f'{bag}: {error}; give the .db3 file of pntos-cobra-datasets-ros') from None
    if not readings or not states:
        raise DatasetError(f'{bag} has no {COBRA_IMU} or {COBRA_STATE}; give that of '
                           'pntos-cobra-datasets-ros')
    increments = np.frombuffer(b''.join(data[44:92] for _, data in readings), '<f8').reshape(-1, 6)
    velocity = np.frombuffer(b''.join(data[68:92] for _, data in states), '<f8').reshape(-1, 3)
    begin = readings[0][0]
    times, reference = (np.array([stamp - begin for stamp, _ in rows]) / SECOND
                        for rows in (readings, states))
    kept = np.append(True, np.diff(times) > 0)
    values = increments[kept] * COBRA_RATE
    every = slice(None, None, 10)  # 20 a second
    reference, north, east = reference[every], velocity[every, 0], velocity[every, 1]
    speed = np.hypot(north, east)
    direction = np.unwrap(np.arctan2(east, north))
    turning = -np.gradient(direction, reference)
    turning[(speed < MOVING) & (speed > STILL)] = np.nan
    turning[speed <= STILL] = 0.0
    return ImuDrive('cobra', times[kept], values[:, 3:], values[:, :3], None, np.diag([1.0, -1.0, -1.0]),
                 reference, speed, turning)


def robot_drive(bag: Path, imu: str, odometry: str, mount: Sequence[float] | None = None) -> ImuDrive:
    """Read a drive from a ROS 1 or ROS 2 bag with sensor_msgs/Imu and nav_msgs/Odometry.

    mount: yaw, pitch and roll of the IMU in radians, as of static_transform_publisher; None: not known.
    """
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    with AnyReader([bag], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        found: dict[str, list[list[float]]] = {imu: [], odometry: []}
        connections = [connection for connection in reader.connections if connection.topic in found]
        for connection, _, data in reader.messages(connections):
            message: Any = reader.deserialize(data, connection.msgtype)
            stamp = message.header.stamp
            row = [stamp.sec + stamp.nanosec / SECOND]
            if connection.topic == imu:
                turn, push = message.angular_velocity, message.linear_acceleration
                facing = message.orientation
                row += [turn.x, turn.y, turn.z, push.x, push.y, push.z, facing.w, facing.x, facing.y,
                        facing.z, message.orientation_covariance[0]]
            else:
                twist = message.twist.twist
                row += [abs(twist.linear.x), twist.angular.z]
            found[connection.topic].append(row)
    if missing := [topic for topic, rows in found.items() if not rows]:
        raise DatasetError(f'{bag} has no messages on {", ".join(missing)}; name the topics of its IMU and '
                           'odometry')
    readings, states = (_rising(np.array(found[topic])) for topic in (imu, odometry))
    begin = readings[0, 0]
    absent = readings[0, 11] == -1 or not readings[:, 7:11].any()
    turned = None
    if mount is not None:
        turned = np.linalg.multi_dot(list(rotation_matrices(np.diag(mount)[:, ::-1])))
    return ImuDrive(bag.stem, readings[:, 0] - begin, readings[:, 1:4], readings[:, 4:7],
                 None if absent else readings[:, 7:11], turned, states[:, 0] - begin, states[:, 1],
                 states[:, 2])


def world_drive(seed: int, seconds: float = 60.0, step: float = 0.1) -> ImuDrive:
    """Return a drive of the simulated world's vehicle, in whose axes the IMU lies."""
    world = World(seed, reach=1.0)
    states = [world.state()]
    for _ in range(round(seconds / step)):
        world.step(step)
        states.append(world.state())
    readings = [reading for before, after in zip(states, states[1:], strict=False)
                for reading in inertial_readings(before, after)]
    begins = np.array([start for start, size in _bumps(seed, seconds) if size])
    speed = np.array([state.ego.speed for state in states])
    reference = np.array([state.time for state in states])
    felt = np.interp(begins, reference, speed) > BUMP_SPEED / 2
    heading = np.unwrap([state.ego.yaw for state in states])
    return ImuDrive(f'world {seed}', np.array([reading.time for reading in readings]),
                 np.array([reading.rotation_rate for reading in readings]),
                 np.array([reading.acceleration for reading in readings]), None, np.eye(3), reference, speed,
                 np.gradient(heading, reference), begins[felt])


def _bumps(seed: int, seconds: float) -> Iterator[tuple[float, float]]:
    return (bump(seed, slot) for slot in range(int(seconds // BUMP_EVERY) + 1))


def _rising(rows: np.ndarray) -> np.ndarray:
    """Return rows in the order of their first column, each time once."""
    _, first = np.unique(rows[:, 0], return_index=True)
    return rows[first]
