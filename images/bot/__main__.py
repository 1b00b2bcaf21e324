"""What `python app` runs: the directory of this file becomes the first on sys.path."""

import sys

from buildgrid_bot.cli import main

sys.exit(main())
