"""`python -m odograph`."""

import sys

from .cli import main

sys.exit(main())
