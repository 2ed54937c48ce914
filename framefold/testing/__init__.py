"""Checks for your own UDFs and sources."""

from framefold.testing.check_udf import check_udf

__all__ = ["check_udf"]
