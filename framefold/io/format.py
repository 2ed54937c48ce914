"""What a file format tells the registry: its name, how to recognise it, how to open it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from framefold.udfcore.source import Source


@dataclass(frozen=True, slots=True)
class Format:
    """A file format.

    Every format module has one as its ``FORMAT``; plug-ins name theirs in the entry point group
    ``framefold.formats``.

    Attributes
    ----------
    name
        What users write in ``format=``.
    description
        One line for lists of formats.
    sniff
        ``sniff(path, head)`` looks at the first bytes of a file (8 KiB, or all of a shorter one) and returns
        None if they are of this format, else why not, in a few words. It may look further into the file. For
        a directory `head` is empty. It must work without optional libraries and never raises on bad content.
    open
        ``open(path, **options)`` returns the source. Its keyword parameters are the options of the format:
        an option that is not among them is refused before it is called. It gets ``nav_shape``, ``sig_shape``,
        ``dtype`` and ``key`` of `open_source` if it has parameters of that name.
    extensions
        Usual endings, lower case with the dot. They only decide between several formats that fit.
    directory
        True if `path` is a directory of this format, False if it is a file.
    gathers
        ``open`` of the first file finds the other files of a series itself.
    """

    name: str
    description: str
    sniff: Callable[[str, bytes], str | None]
    open: Callable[..., Source]
    extensions: tuple[str, ...] = ()
    directory: bool = False
    gathers: bool = False
