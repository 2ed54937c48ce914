"""Checks for your own UDFs and sources."""

from framefold.testing.check_source import check_source
from framefold.testing.check_udf import check_udf

__all__ = ["check_source", "check_udf"]
