"""The world as SDF, for Gazebo: the same street, traffic and rig as the embedded sensors see.

Written for SDF 1.9 and Gazebo Harmonic; docs/guide/gazebo.md says how to run it and what has not been tried.
"""
