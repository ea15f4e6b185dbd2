"""`python -m rlft_cli`: the same as `rlft`."""

import sys

from rlft_cli.cli import main

sys.exit(main())
