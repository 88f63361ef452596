"""Costs of adapting at the sizes of the paper."""
