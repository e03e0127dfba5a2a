"""``python -m atlaseg``: the command line."""

import sys

from atlaseg.workflows.cli import main

if __name__ == "__main__":
    sys.exit(main())
