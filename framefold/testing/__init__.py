"""Checks for your own UDFs and sources."""

from framefold.testing.check_source import check_source
from framefold.testing.check_udf import check_udf
from framefold.testing.emulator import DetectorEmulator

__all__ = ["DetectorEmulator", "check_source", "check_udf"]
