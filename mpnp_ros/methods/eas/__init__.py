"""Efficient attention skipping."""
