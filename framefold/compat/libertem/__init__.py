"""Runs UDFs written for LiberTEM: provides its module names on request."""

from framefold.compat.libertem.install import install, shim, uninstall

__all__ = ["install", "shim", "uninstall"]
