"""The version of LiberTEM whose interface the shim follows."""

__version__ = "0.16.0"
