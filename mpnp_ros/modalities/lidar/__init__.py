"""LiDAR: one sweep to one token per azimuth sector."""
