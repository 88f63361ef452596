"""The embedded driving world: seeded traffic, its sensors and its ground truth.

It replaces a robot or Gazebo.  Everything follows from a seed and from
:class:`~mpnp_world.scene.identity.Conditions`.  The same seed under another light or weather has the same
traffic; a day scene and its night twin differ in sensor data only.  The world is synthetic: accuracy in it is
not accuracy on nuScenes.

If this process is the world node (``python -m mpnp_world.node``), it handles signals from here on, as
:mod:`mpnp_ros.nodes` does.
"""
import sys

from mpnp_ros.nodes import signals

if sys.argv[:1] == ['-m'] and signals.is_node(sys.orig_argv, __name__):
    signals.heed()
