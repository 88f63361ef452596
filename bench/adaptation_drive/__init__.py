"""Adaptation in the running system, beside the answers."""
