"""Measurements against the peers: ratios, taken in one run on one machine."""
