"""Influence, grounding and confidence of answers, measured where the truth is known."""
