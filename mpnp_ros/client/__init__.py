"""Ask a robot from Python: :class:`~mpnp_ros.client.robot.Robot`, or ``AsyncRobot`` for asyncio::

    from mpnp_ros.client import Robot

    with Robot() as robot:
        answer = robot.ask('Is there a pedestrian in front of me?', choices=['yes', 'no'])
        print(answer.text, answer.confidence, list(answer.used_modalities))

Results are ROS messages of this package; errors are those of :mod:`mpnp_ros.errors`.
"""
from mpnp_ros.client.async_robot import AsyncRobot, Update
from mpnp_ros.client.robot import Robot
from mpnp_ros.errors import NotAnsweringError, NotRunningError, RequestError

__all__ = ['AsyncRobot', 'NotAnsweringError', 'NotRunningError', 'RequestError', 'Robot', 'Update']
