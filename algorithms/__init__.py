"""Learning algorithms: one file each, listed in `registry`."""
