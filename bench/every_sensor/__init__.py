"""Accuracy of every set of sensors, on questions about objects, own motion and sounds."""
