"""A nuScenes root: its tables, sensor files and published questions."""
