"""Drive through the embedded world with the whole system: ros2 launch mpnp_ros world.launch.py light:=night

While it runs, `ros2 param set /world light night` turns day into night. All arguments of bringup.launch.py
can be given too. `mpnp world live` starts the world alone, without ros2 launch.
"""
from launch import Action, LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction

from mpnp_ros.cli.launching import number, system_actions, system_arguments
from mpnp_ros.cli.node_processes import OVERLAYS, WORLD
from mpnp_world.scene.identity import LIGHTS, WEATHERS

OVERLAY = OVERLAYS[WORLD]


def generate_launch_description() -> LaunchDescription:
    """The system of bringup.launch.py under simulated time, and the world."""
    return LaunchDescription([*arguments(), *system_arguments(OVERLAY, source=WORLD),
                              OpaqueFunction(function=system)])


def arguments() -> list[DeclareLaunchArgument]:
    """What --show-args shows before the arguments of bringup.launch.py."""
    return [
        DeclareLaunchArgument('seed', default_value='0', description='Seed of streets and traffic'),
        DeclareLaunchArgument('light', default_value='day', choices=list(LIGHTS),
                              description='Light at the beginning'),
        DeclareLaunchArgument('weather', default_value='clear', choices=list(WEATHERS),
                              description='Weather at the beginning'),
        DeclareLaunchArgument('rate', default_value='1.0', description='Speed; 1.0 is real time'),
    ]


def system(context: LaunchContext) -> list[Action]:
    """All nodes; the world makes /clock and does not follow it, and waits for those that are to listen."""
    given = context.launch_configurations
    return system_actions(context, OVERLAY, WORLD, {
        'seed': number(given, 'seed', int), 'rate': number(given, 'rate'),
        'light': given['light'], 'weather': given['weather']})
