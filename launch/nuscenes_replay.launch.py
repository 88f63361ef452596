"""Replay a bag into the whole system: ros2 launch mpnp_ros nuscenes_replay.launch.py bag:=/path/to/bag

`mpnp convert` writes such bags. All arguments of bringup.launch.py can be given too; use_sim_time is set.
"""
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from mpnp_ros.cli.node_processes import ENCODERS, REPLAY, listeners
from mpnp_ros.locations import shared_file

BRINGUP = Path(__file__).with_name('bringup.launch.py')


def generate_launch_description() -> LaunchDescription:
    """The system of bringup.launch.py under simulated time, and the replay."""
    given = {'use_sim_time': 'true', 'params_file': LaunchConfiguration('params_file')}
    system = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(BRINGUP)),
                                      launch_arguments=given.items())
    return LaunchDescription([*arguments(), system, OpaqueFunction(function=replay)])


def arguments() -> list[DeclareLaunchArgument]:
    """What --show-args shows before the arguments of bringup.launch.py."""
    return [
        DeclareLaunchArgument('bag', description='Bag folder, or an .mcap or .db3 file'),
        DeclareLaunchArgument('rate', default_value='1.0',
                              description='Speed of the replay; 1.0 is real time'),
        DeclareLaunchArgument('loop', default_value='false', choices=['true', 'false'],
                              description='Start the replay again at its end'),
        DeclareLaunchArgument('params_file', default_value=str(shared_file('config/nuscenes.yaml')),
                              description='YAML file with the parameters of the nodes'),
    ]


def replay(context: LaunchContext) -> list[Node]:
    """The replay node; it makes /clock and does not follow it, and waits for those that are to listen."""
    switched_on = [name for name in ENCODERS if LaunchConfiguration(name).perform(context) == 'true']
    types = {'bag': str, 'rate': float, 'loop': bool}
    given = {name: ParameterValue(LaunchConfiguration(name), value_type=kind) for name, kind in types.items()}
    given['wait_for'] = listeners(switched_on)
    return [Node(package='mpnp_ros', executable=REPLAY, namespace=LaunchConfiguration('namespace'),
                 parameters=[LaunchConfiguration('params_file'), given],
                 ros_arguments=['--log-level', LaunchConfiguration('log_level')],
                 output='screen', emulate_tty=True)]
