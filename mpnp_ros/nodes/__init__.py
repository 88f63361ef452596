"""One thin module per node, and what the nodes share.

Where this process is a node's (``python -m mpnp_ros.nodes.fusion``), it heeds signals from here on: what a
node imports takes seconds, and a signal in the midst of that is an end like any other.
"""
import sys

from mpnp_ros.nodes import signals

if sys.argv[:1] == ['-m'] and signals.is_node(sys.orig_argv, __name__):
    signals.heed()
