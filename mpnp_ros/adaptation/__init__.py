"""Adaptation at run time: when links are trained, on what, within which budget, and the jobs that do it."""
