"""Emulators of detectors: datasets as the messages that a detector would send."""
