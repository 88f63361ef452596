"""Drive through the embedded world with the whole system: ros2 launch mpnp_ros world.launch.py light:=night

While it runs, `ros2 param set /world light night` turns day into night. All arguments of bringup.launch.py
can be given too; use_sim_time is set. `mpnp world live` starts the world alone, without ros2 launch.
"""
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from mpnp_ros.cli.node_processes import ENCODERS, WORLD, listeners
from mpnp_ros.locations import shared_file
from mpnp_ros.world.conditions import LIGHTS, WEATHERS

BRINGUP = Path(__file__).with_name('bringup.launch.py')
TYPES = {'seed': int, 'light': str, 'weather': str, 'rate': float}


def generate_launch_description() -> LaunchDescription:
    """The system of bringup.launch.py under simulated time, and the world."""
    given = {'use_sim_time': 'true', 'params_file': LaunchConfiguration('params_file')}
    system = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(BRINGUP)),
                                      launch_arguments=given.items())
    return LaunchDescription([*arguments(), system, OpaqueFunction(function=world)])


def arguments() -> list[DeclareLaunchArgument]:
    """What --show-args shows before the arguments of bringup.launch.py."""
    return [
        DeclareLaunchArgument('seed', default_value='0', description='Seed of streets and traffic'),
        DeclareLaunchArgument('light', default_value='day', choices=list(LIGHTS),
                              description='Light at the beginning'),
        DeclareLaunchArgument('weather', default_value='clear', choices=list(WEATHERS),
                              description='Weather at the beginning'),
        DeclareLaunchArgument('rate', default_value='1.0', description='Speed; 1.0 is real time'),
        DeclareLaunchArgument('params_file', default_value=str(shared_file('config/world.yaml')),
                              description='YAML file with the parameters of the nodes'),
    ]


def world(context: LaunchContext) -> list[Node]:
    """The world node; it makes /clock and does not follow it, and waits for those that are to listen."""
    switched_on = [name for name in ENCODERS if LaunchConfiguration(name).perform(context) == 'true']
    given = {name: ParameterValue(LaunchConfiguration(name), value_type=kind) for name, kind in TYPES.items()}
    given['wait_for'] = listeners(switched_on)
    return [Node(package='mpnp_ros', executable=WORLD, namespace=LaunchConfiguration('namespace'),
                 parameters=[LaunchConfiguration('params_file'), given],
                 ros_arguments=['--log-level', LaunchConfiguration('log_level')],
                 output='screen', emulate_tty=True)]
