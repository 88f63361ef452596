"""Scenes of the world as annotated key frames and as a nuScenes root."""
