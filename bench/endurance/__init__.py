"""A robot whose nodes are killed and whose links are exchanged while it answers."""
