"""The example of docs/embedding.md, run as its readers run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.farm.database import count

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "embedding.md").read_text()
WITHIN = 90  # seconds; it takes a few where nothing else runs


def test_the_example_runs_and_prints_what_the_page_says(empty_database: str) -> None:
    (told,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for run in (1, 2):  # the second sees nothing of what the first left
        done = subprocess.run(
            [sys.executable, "-W", "error", str(ROOT / "examples" / "embedding.py")],
            env={**os.environ, "DATABASE_URL": empty_database},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=WITHIN,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == told
        assert count(empty_database, "jobs") == run * 8, "six that ran, a cached one, and a cancelled one"
        assert count(empty_database, "bots") == 0, "both have left"
        assert count(empty_database, "queue") + count(empty_database, "leases") == 0
