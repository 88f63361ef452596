"""The embedded driving world: seeded traffic, its sensors and its ground truth.

It replaces a robot or Gazebo.  Everything follows from a seed and from
:class:`~mpnp_ros.world.conditions.Conditions`.  The same seed under another light or weather has the same
traffic; a day scene and its night twin differ in sensor data only.  The world is synthetic: accuracy in it is
not accuracy on nuScenes.
"""
