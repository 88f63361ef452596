"""Detected objects, whoever detected them, as expected counts with honest probabilities."""
