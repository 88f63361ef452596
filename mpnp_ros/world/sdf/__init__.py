"""The world as SDF, for Gazebo: the same street, traffic and rig as the embedded sensors see.

Written for SDF 1.9 and Gazebo Harmonic; docs/gazebo.md says how to run it and what of it has not been run.
"""
