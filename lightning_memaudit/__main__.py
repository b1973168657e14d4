"""``python -m lightning_memaudit`` is ``memaudit``."""

import sys

from lightning_memaudit.cli import main

if __name__ == "__main__":
    sys.exit(main())
