"""The serving half of the container contract."""
