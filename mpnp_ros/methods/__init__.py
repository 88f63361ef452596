"""Ways of connecting modalities to the frozen language model, one module each, behind one protocol."""
