"""The rig of the ego vehicle as URDF, for robot_state_publisher.

Frames are as in a converted nuScenes scene: base_link and one child per sensor, named like its topics.
"""
from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring

from mpnp_ros.bags.messages import BASE_FRAME
from mpnp_world.gazebo.elements import roll_pitch_yaw
from mpnp_world.sensors.rig import CAMERAS, LIDAR
from mpnp_world.standin.rig import LIDAR_CHANNEL


def rig_urdf() -> str:
    """The URDF with fixed joints; camera frames look along z, as :mod:`~mpnp_world.sensors.rig` has them."""
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


def _row(values: object) -> str:
    return ' '.join(f'{value:.9f}' for value in values)
