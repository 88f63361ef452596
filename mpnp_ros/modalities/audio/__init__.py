"""Audio: the sound of any number of microphones to tokens of what is heard, and from where."""
