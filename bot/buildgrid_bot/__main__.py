"""`python -m buildgrid_bot`."""

import sys

from buildgrid_bot.cli import main

sys.exit(main())
