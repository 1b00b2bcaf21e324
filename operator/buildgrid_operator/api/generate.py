"""Writes crds/*.yaml and docs/api.md from the models: `python -m buildgrid_operator.api.generate [--check]`.

With `--check` it only tells, by its exit code, whether the files are as they would be written.
"""

import argparse
import sys
from pathlib import Path

from buildgrid_operator.api.crd import KINDS, crd_file, crd_yaml
from buildgrid_operator.api.reference import reference


def files() -> dict[str, str]:
    """What is generated: path below the project's root -> content."""
    crds = {f"crds/{crd_file(kind)}": crd_yaml(kind) for kind in KINDS}
    return {**crds, "docs/api.md": reference()}


def main(arguments: list[str] | None = None) -> int:
    """Write or check; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write the CRDs and the reference of the API.")
    parser.add_argument("--check", action="store_true", help="only look whether the files are up to date")
    parser.add_argument("--root", type=Path, default=Path(), help="the project's root (default: here)")
    options = parser.parse_args(arguments)
    drifted = []
    for path, content in files().items():
        file = options.root / path
        if options.check:
            if not file.is_file() or file.read_text(encoding="utf-8") != content:
                drifted.append(path)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
    for path in drifted:
        print(f"{path} is not what the models say; run `make docs`", file=sys.stderr)
    return 1 if drifted else 0


if __name__ == "__main__":
    sys.exit(main())
