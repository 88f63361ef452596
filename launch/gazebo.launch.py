"""Drive through a street in Gazebo with the whole system: ros2 launch mpnp_ros gazebo.launch.py

Needs ros_gz_sim, ros_gz_bridge, ros_gz_image, compressed_image_transport and robot_state_publisher
(docs/guide/gazebo.md). All arguments of bringup.launch.py can be given too.
"""
from functools import partial
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from mpnp_ros.cli.launching import system_actions, system_arguments
from mpnp_ros.files import shared_file
from mpnp_world.gazebo.ego import rig_urdf
from mpnp_world.sensors.rig import CAMERAS

OVERLAY = 'config/nuscenes.yaml'
IMAGE_TOPICS = [f'/{channel.lower()}/image_rect' for channel in CAMERAS]


def generate_launch_description() -> LaunchDescription:
    """The system of bringup.launch.py under simulated time, Gazebo, and what carries its topics to ROS."""
    return LaunchDescription([
        *arguments(), *system_arguments(OVERLAY, clock='Gazebo'),
        OpaqueFunction(function=partial(system_actions, overlay=OVERLAY)),
        OpaqueFunction(function=simulator), *bridges()])


def arguments() -> list[DeclareLaunchArgument]:
    """What --show-args shows before the arguments of bringup.launch.py."""
    return [
        DeclareLaunchArgument('world', default_value=str(shared_file('worlds/street_day.sdf')),
                              description='SDF file, such as `mpnp world sdf` writes'),
        DeclareLaunchArgument('gui', default_value='true', choices=['true', 'false'],
                              description='Show the window of Gazebo; without it a GPU is still needed'),
    ]


def simulator(context: LaunchContext) -> list[IncludeLaunchDescription]:
    """Gazebo, running from the start; the launch ends with it."""
    world = Path(LaunchConfiguration('world').perform(context)).resolve()
    window = LaunchConfiguration('gui').perform(context) == 'true'
    flags = '-r' if window else '-r -s --headless-rendering'
    given = {'gz_args': f'{flags} {world}', 'on_exit_shutdown': 'true'}
    source = PathJoinSubstitution([FindPackageShare('ros_gz_sim'), 'launch', 'gz_sim.launch.py'])
    return [IncludeLaunchDescription(PythonLaunchDescriptionSource(source), launch_arguments=given.items())]


def bridges() -> list[Node]:
    """Topics, images (in a process of their own) and how the sensors are mounted."""
    table = {'config_file': str(shared_file('config/gazebo_bridge.yaml')), 'use_sim_time': True}
    mounts = {'robot_description': ParameterValue(rig_urdf(), value_type=str), 'use_sim_time': True}
    return [
        Node(package='ros_gz_bridge', executable='parameter_bridge', name='gazebo_bridge', parameters=[table],
             output='screen'),
        Node(package='ros_gz_image', executable='image_bridge', name='gazebo_images', arguments=IMAGE_TOPICS,
             parameters=[{'use_sim_time': True}], output='screen'),
        Node(package='robot_state_publisher', executable='robot_state_publisher', name='rig',
             parameters=[mounts], output='screen'),
    ]
