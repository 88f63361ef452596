"""Accuracy in the simulated world: scenes, links of every seed, answers and their page."""
