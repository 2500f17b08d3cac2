"""Limits that more than one room keeps."""

MOST_GROUPS = 8
"""An image of k groups is in 2^k - 1 sets of images: see `snojoe.measures.clusters`."""
