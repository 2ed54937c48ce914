"""The algorithms, one file each, as frozen values that compose to recipes."""
