"""Start encoders, fusion and adaptation: ros2 launch mpnp_ros bringup.launch.py

Every node is a process of its own. rclpy cannot load Python nodes into a component container, so there is no
composed variant. `mpnp bringup` starts the same system without ros2 launch and starts fallen nodes again.
"""
from launch import LaunchDescription
from launch.actions import OpaqueFunction

from mpnp_ros.cli.launching import system_actions, system_arguments


def generate_launch_description() -> LaunchDescription:
    """Encoders as switched on, fusion, and adaptation unless switched off."""
    return LaunchDescription([*system_arguments(), OpaqueFunction(function=system_actions)])
