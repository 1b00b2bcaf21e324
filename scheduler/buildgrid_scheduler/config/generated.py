"""Pages that are generated from the program: written, or held against what would be written."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path


def write_or_check(page: Callable[[], str], arguments: list[str] | None = None) -> int:
    """The program of a generator: `FILE [--check]`; returns its exit code."""
    parser = argparse.ArgumentParser(description="Write a page of the documentation.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--check", action="store_true", help="only look whether the file is up to date")
    options = parser.parse_args(arguments)
    if not options.check:
        options.file.write_text(page(), encoding="utf-8")
        return 0
    if options.file.is_file() and options.file.read_text(encoding="utf-8") == page():
        return 0
    print(f"{options.file} is not what the program says; run `make docs`", file=sys.stderr)
    return 1
