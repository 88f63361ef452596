"""Cameras: any number of images in one frame, each to a few tokens that know their direction."""
