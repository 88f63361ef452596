"""Start encoders, fusion and adaptation: ros2 launch mpnp_ros bringup.launch.py

Every node is a process of its own. rclpy cannot load Python nodes into a component container, so there is no
composed variant. `mpnp bringup` starts the same system without ros2 launch and starts fallen nodes again.
"""
import os
from collections.abc import Sequence

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from mpnp_ros.cli.node_processes import ADAPTATION, ENCODERS, FUSION, LOG_LEVELS, USUAL
from mpnp_ros.locations import shared_file
from mpnp_ros.transport import additions

SWITCH = ['true', 'false']


def generate_launch_description() -> LaunchDescription:
    """Encoders as switched on, fusion, and adaptation unless switched off."""
    environment = [SetEnvironmentVariable(name, value) for name, value in additions(os.environ).items()]
    encoders = [start(node, IfCondition(LaunchConfiguration(modality)))
                for modality, node in ENCODERS.items()]
    adaptation = start(ADAPTATION, IfCondition(LaunchConfiguration('adaptation')), ('use_sim_time',))
    return LaunchDescription([*arguments(), *environment, *encoders, start(FUSION), adaptation])


def arguments() -> list[DeclareLaunchArgument]:
    """What --show-args shows."""
    return [
        DeclareLaunchArgument('namespace', default_value='',
                              description='Namespace of all nodes, e.g. robot1'),
        DeclareLaunchArgument('params_file', default_value=str(shared_file('config/mpnp.yaml')),
                              description='YAML file with the parameters of the nodes'),
        DeclareLaunchArgument('autostart', default_value='true', choices=SWITCH,
                              description='Configure and activate the nodes without a lifecycle manager'),
        DeclareLaunchArgument('use_sim_time', default_value='false', choices=SWITCH,
                              description='Follow /clock, as with a bag or a simulator'),
        *(DeclareLaunchArgument(modality, default_value=str(modality in USUAL).lower(), choices=SWITCH,
                                description=f'Start the {modality} encoder') for modality in ENCODERS),
        DeclareLaunchArgument('adaptation', default_value='true', choices=SWITCH,
                              description='Start the adaptation node, which trains links that are missing'),
        DeclareLaunchArgument('log_level', default_value='info', choices=list(LOG_LEVELS),
                              description='Log level of the nodes'),
    ]


def start(node: str, condition: IfCondition | None = None,
          names: Sequence[str] = ('autostart', 'use_sim_time')) -> Node:
    """One node; those arguments are its parameters too, and win over the parameter file."""
    switches = {name: ParameterValue(LaunchConfiguration(name), value_type=bool)
                for name in names}
    return Node(package='mpnp_ros', executable=node, namespace=LaunchConfiguration('namespace'),
                parameters=[LaunchConfiguration('params_file'), switches],
                ros_arguments=['--log-level', LaunchConfiguration('log_level')],
                output='screen', emulate_tty=True, condition=condition)
