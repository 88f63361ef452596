"""Meshes of the objects, fixtures and ground of the world."""
