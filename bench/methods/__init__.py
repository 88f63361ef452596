"""Accuracy and costs of the methods within one budget of operations."""
