"""`python -m mini_bert VERB` is `mini-bert VERB`."""

from __future__ import annotations

import sys

from mini_bert.cli import main

if __name__ == "__main__":
    sys.exit(main())
