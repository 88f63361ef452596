"""Export of the world as SDF for Gazebo, with the same street, traffic and rig.

It targets SDF 1.9 and Gazebo Harmonic; see docs/guide/gazebo.md.
"""
