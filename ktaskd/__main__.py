"""`python -m ktaskd` is the daemon."""

import sys

from ktaskd.daemon.main import main

if __name__ == "__main__":
    sys.exit(main())
