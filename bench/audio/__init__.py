"""Measures what the audio encoder hears and from where, and fits its calibration."""
