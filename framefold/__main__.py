"""``python -m framefold`` is the ``framefold`` command."""

import sys

from framefold.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
