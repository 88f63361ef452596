"""The mpnp command: one module per subcommand.

Where this process is that command, a signal ends it without a word from here on, until the command has begun.
"""
import sys

from mpnp_ros.cli import signals

if signals.is_command(sys.argv, sys.orig_argv):
    signals.end_at_once()
