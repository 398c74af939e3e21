"""Running jobs and endpoints on this machine."""
