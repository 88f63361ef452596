"""Nodes, one module each, and the code they share.

If this process is a node (``python -m mpnp_ros.nodes.fusion``), it handles signals from here on: the imports
of a node take seconds, and a signal during them must end the process in the usual way.  Garbage is not
collected until the node has started (``run_node``): nothing of these imports is garbage, and to look through
it again and again takes a sixth of their time.
"""
import gc
import sys

from mpnp_ros.nodes import signals

if sys.argv[:1] == ['-m'] and signals.is_node(sys.orig_argv, __name__):
    signals.heed()
    gc.disable()
