"""Radar: scans of any number of radars to one token per azimuth sector."""
