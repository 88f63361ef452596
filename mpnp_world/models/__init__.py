"""Meshes of what stands and moves in the world."""
