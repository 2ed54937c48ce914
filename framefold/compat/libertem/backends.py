"""Names of LiberTEM's ways to read files; framefold chooses its own."""

from __future__ import annotations

from typing import Any, ClassVar


class IOBackend:
    """A way to read files, by name; only the name is kept."""

    by_id: ClassVar[dict[str, type[IOBackend]]] = {}
    id_: ClassVar[str] = ""

    def __init_subclass__(cls, id_: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if id_ is not None:
            cls.id_ = id_
            IOBackend.by_id[id_] = cls

    @classmethod
    def get_supported(cls) -> list[str]:
        """Return the names."""
        return list(cls.by_id)


class IOBackendImpl:
    """What reads in a worker; framefold never calls it."""


class MMapBackend(IOBackend, id_="mmap"):
    """Memory maps."""

    def __init__(self, enable_readahead_hints: bool = False) -> None:
        self.enable_readahead_hints = enable_readahead_hints


class BufferedBackend(IOBackend, id_="buffered"):
    """Reads into buffers."""

    def __init__(self, max_buffer_size: int = 16 * 2**20) -> None:
        self.max_buffer_size = max_buffer_size


class DirectBackend(IOBackend, id_="direct"):
    """Reads past the page cache."""

    def __init__(self, max_buffer_size: int = 16 * 2**20) -> None:
        self.max_buffer_size = max_buffer_size
