"""Replay a bag into the whole system: ros2 launch mpnp_ros nuscenes_replay.launch.py bag:=/path/to/bag

`mpnp convert` writes such bags. All arguments of bringup.launch.py can be given too.
"""
from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction

from mpnp_ros.cli.launching import number, system_actions, system_arguments
from mpnp_ros.cli.node_processes import OVERLAYS, REPLAY

OVERLAY = OVERLAYS[REPLAY]


def generate_launch_description() -> LaunchDescription:
    """The system of bringup.launch.py under simulated time, and the replay."""
    return LaunchDescription([*arguments(), *system_arguments(OVERLAY, source=REPLAY),
                              OpaqueFunction(function=system)])


def arguments() -> list[DeclareLaunchArgument]:
    """What --show-args shows before the arguments of bringup.launch.py."""
    return [
        DeclareLaunchArgument('bag', description='Bag folder, or an .mcap or .db3 file'),
        DeclareLaunchArgument('rate', default_value='1.0',
                              description='Speed of the replay; 1.0 is real time'),
        DeclareLaunchArgument('loop', default_value='false', choices=['true', 'false'],
                              description='Start the replay again at its end'),
    ]


def system(context: LaunchContext) -> list[Action]:
    """All nodes; the replay makes /clock and does not follow it, and waits for those that are to listen."""
    given = context.launch_configurations
    return system_actions(context, OVERLAY, REPLAY, {
        'bag': given['bag'], 'rate': number(given, 'rate'), 'loop': given['loop'] == 'true'})
