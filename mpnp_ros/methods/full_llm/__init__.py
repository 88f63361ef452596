"""Tuning of the whole language model."""
