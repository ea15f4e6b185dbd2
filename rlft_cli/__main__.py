"""``python -m rlft_cli``: the command ``rlft`` of whatever interpreter runs it."""

import sys

from rlft_cli.cli import main

sys.exit(main())
