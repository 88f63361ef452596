"""The ego vehicle with its sensors, as in :mod:`mpnp_world.sensors.rig`.

A camera of SDF looks along its x axis with z up; a camera frame of ROS and of nuScenes looks along z with y
down.  The sensor's pose is turned accordingly; its messages carry the frame of nuScenes.
"""
from __future__ import annotations

import math
from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np

from mpnp_ros.bags.messages import BASE_FRAME, MAP_FRAME
from mpnp_ros.poses import Transform
from mpnp_world.gazebo.elements import Solid, element, numbers, plugin, pose_of, roll_pitch_yaw, visual
from mpnp_world.gazebo.motion import Trajectory, twist
from mpnp_world.sensors.rig import (
    CAMERAS,
    EGO_REAR,
    EGO_SIZE,
    IMAGE_SIZE,
    LIDAR,
    LIDAR_CHANNEL,
    LIDAR_COLUMNS,
    LIDAR_ELEVATIONS,
    LIDAR_RINGS,
)

NAME = 'ego'
COMMAND_TOPIC = '/cmd_vel'
CAMERA_RATE, LIDAR_RATE, IMU_RATE, ODOMETRY_RATE = 12.0, 20.0, 100.0, 50.0
"""Rates as in nuScenes, hertz."""
LENS_AXES = Transform(np.array([[0., -1., 0.], [0., 0., -1.], [1., 0., 0.]]), np.zeros(3))
"""SDF's camera axes (x ahead, y left, z up) in the optical frame (x right, y down, z ahead)."""
OWN_BODY = 1
"""Visibility flag of the vehicle's own body, which is invisible to its cameras."""


def ego_model(trajectory: Trajectory, tick: float, image_width: int, headlights: bool, free: bool) -> Element:
    """The model at the start of ``trajectory``, which it follows unless ``free``.

    tick: seconds of a simulation step.  image_width: pixels; images are 16 to 9.
    """
    x, y, _, yaw = trajectory.poses[0]
    moments = element('inertia', element('ixx', 500.0), element('iyy', 2000.0), element('izz', 2200.0))
    # The body is below the view of sensors; it has no collision, because velocity commands move it.
    length, width, _ = EGO_SIZE
    hull = visual(Solid('box', (length, width, 0.6), (length / 2 - EGO_REAR, 0, 0.5), 'paint'), 'hull',
                  (0.8, 0.8, 0.8))
    hull.append(element('visibility_flags', str(OWN_BODY)))
    reference = element('orientation_reference_frame', element('localization', 'ENU'))
    at_base = Transform(np.eye(3), np.zeros(3))
    imu = _sensor('IMU', 'imu', '/imu', IMU_RATE, at_base, element('imu', reference))
    link = element(
        'link', element('gravity', 'false'), element('inertial', element('mass', 1500.0), moments), hull,
        *(_headlight(side) for side in ((-0.6, 0.6) if headlights else ())),
        *(_camera(channel, image_width) for channel in CAMERAS), _lidar(), imu, name=BASE_FRAME)
    # Odometry, including the transform from the map to the vehicle.
    odometry = plugin('odometry-publisher', 'OdometryPublisher', element('odom_frame', MAP_FRAME),
                      element('robot_base_frame', BASE_FRAME), element('odom_topic', '/odom'),
                      element('tf_topic', '/tf'), element('odom_publish_frequency', ODOMETRY_RATE),
                      element('dimensions', '3'))
    return element('model', element('pose', (x, y, 0, 0, 0, yaw)), link, *_drive(trajectory, tick, free),
                   odometry, name=NAME)


def _sensor(channel: str, kind: str, topic: str, rate: float, pose: Transform, *content: Element) -> Element:
    """A sensor; gz_frame_id is not in the schema of SDF, but Gazebo reads it."""
    frame = BASE_FRAME if kind == 'imu' else channel.lower()
    return element('sensor', pose_of(pose), element('always_on', 'true'), element('update_rate', rate),
                   element('topic', topic), element('gz_frame_id', frame), *content, name=channel, type=kind)


def _camera(channel: str, width: int) -> Element:
    """A camera; Gazebo publishes ``.../camera_info`` beside its topic ``.../image_rect``."""
    mounting, scale = CAMERAS[channel], width / IMAGE_SIZE[0]
    assert mounting.camera is not None  # only a LiDAR has none
    focal, x, y = (value * scale for value in mounting.camera)
    height = round(IMAGE_SIZE[1] * scale)
    intrinsics = element('intrinsics', *(element(name, value) for name, value in
                                         (('fx', focal), ('fy', focal), ('cx', x), ('cy', y), ('s', 0.0))))
    camera = element(
        'camera', element('horizontal_fov', 2 * math.atan(width / 2 / focal)),
        element('image', element('width', width), element('height', height), element('format', 'R8G8B8')),
        element('clip', element('near', 0.1), element('far', 300.0)), _noise(0.007),
        element('lens', element('type', 'gnomonical'), element('scale_to_hfov', 'true'), intrinsics),
        element('visibility_mask', str(0xFFFFFFFF - OWN_BODY)))
    topic, pose = f'/{channel.lower()}/image_rect', mounting.pose @ LENS_AXES
    return _sensor(channel, 'camera', topic, CAMERA_RATE, pose, camera)


def _lidar() -> Element:
    """The LiDAR; Gazebo publishes its points on ``<topic>/points``."""
    gap = 2 * math.pi / LIDAR_COLUMNS
    lowest, highest = map(math.radians, LIDAR_ELEVATIONS)
    scan = element('scan', _fan('horizontal', LIDAR_COLUMNS, -math.pi, math.pi - gap),
                   _fan('vertical', LIDAR_RINGS, lowest, highest))
    reach = element('range', element('min', 1.0), element('max', 105.0), element('resolution', 0.01))
    return _sensor(LIDAR_CHANNEL, 'gpu_lidar', f'/{LIDAR_CHANNEL.lower()}', LIDAR_RATE, LIDAR.pose,
                   element('lidar', scan, reach, _noise(0.02)))


def _fan(tag: str, samples: int, first: float, last: float) -> Element:
    return element(tag, element('samples', samples), element('resolution', 1), element('min_angle', first),
                   element('max_angle', last))


def _noise(deviation: float) -> Element:
    return element('noise', element('type', 'gaussian'), element('mean', 0.0), element('stddev', deviation))


def _headlight(side: float) -> Element:
    ahead = EGO_SIZE[0] - EGO_REAR + 0.05
    spot = element('spot', element('inner_angle', 0.5), element('outer_angle', 1.1), element('falloff', 1.0))
    fading = element('attenuation', element('range', 60.0), element('constant', 0.3), element('linear', 0.02),
                     element('quadratic', 0.002))
    return element('light', element('pose', (ahead, side, 0.7, 0, 0, 0)), element('cast_shadows', 'false'),
                   element('diffuse', (1, 0.97, 0.88, 1)), element('specular', (0.2, 0.2, 0.2, 1)),
                   element('direction', (0.995, 0, -0.1)), fading, spot,
                   name=f'headlight_{"left" if side > 0 else "right"}', type='spot')


def _drive(trajectory: Trajectory, tick: float, free: bool) -> list[Element]:
    """Velocity control; unless free, a command at each time of the trajectory."""
    topic = element('topic', COMMAND_TOPIC)
    if free:
        return [plugin('velocity-control', 'VelocityControl', topic)]
    twists = [twist(start, end, seconds) for start, end, seconds
              in zip(trajectory.poses[:-1], trajectory.poses[1:], np.diff(trajectory.times), strict=True)]
    ahead, left, rate = twists[0]
    control = plugin('velocity-control', 'VelocityControl', topic,
                     element('initial_linear', (ahead, left, 0)), element('initial_angular', (0, 0, rate)))
    commands = []
    for time, values in zip(trajectory.times[1:], [*twists[1:], (0.0, 0.0, 0.0)], strict=True):
        # A twist is published one step before it takes effect.
        seconds, nanoseconds = divmod(round((float(time) - tick) * 1e9), 10 ** 9)
        x, y, turning = (numbers([value]) for value in values)
        trigger = element('input', element('match', str(seconds), field='sim.sec'),
                          element('match', str(nanoseconds), field='sim.nsec'),
                          type='gz.msgs.Clock', topic='/clock')
        order = element('output', f'linear: {{x: {x}, y: {y}}}, angular: {{z: {turning}}}',
                        type='gz.msgs.Twist', topic=COMMAND_TOPIC)
        commands.append(plugin('triggered-publisher', 'TriggeredPublisher', trigger, order))
    return [control, *commands]


def rig_urdf() -> str:
    """The rig as URDF with fixed joints, for robot_state_publisher.

    Frames are as in a converted nuScenes scene: base_link and one child per sensor, named like its topics.
    Camera frames look along z, as :mod:`~mpnp_world.sensors.rig` has them.
    """
    robot = Element('robot', name='mpnp_rig')
    SubElement(robot, 'link', name=BASE_FRAME)
    for channel, mounting in {**CAMERAS, LIDAR_CHANNEL: LIDAR}.items():
        frame, pose = channel.lower(), mounting.pose
        SubElement(robot, 'link', name=frame)
        joint = SubElement(robot, 'joint', name=f'{frame}_mount', type='fixed')
        SubElement(joint, 'parent', link=BASE_FRAME)
        SubElement(joint, 'child', link=frame)
        SubElement(joint, 'origin', xyz=_row(pose.translation), rpy=_row(roll_pitch_yaw(pose.rotation)))
    return tostring(robot, 'unicode')


def _row(values: Iterable[float]) -> str:
    return ' '.join(f'{value:.9f}' for value in values)
