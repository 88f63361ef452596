"""The mpnp command: one module per subcommand.

In the process of the command, a signal ends it silently from here on, until the subcommand has started.
"""
import sys

from mpnp_ros.cli import signals

if signals.is_command(sys.argv, sys.orig_argv):
    signals.end_at_once()
