"""The embedded driving world: seeded traffic, its sensors and its ground truth.

A stand-in for a robot where neither one nor Gazebo is at hand.  Everything follows from a seed and from
:class:`~mpnp_ros.world.conditions.Conditions`; the same seed under another light or weather is the same
traffic, so that a day scene and its night twin differ in what sensors make of it only.
It is a synthetic world: accuracy here is not accuracy on nuScenes.
"""
