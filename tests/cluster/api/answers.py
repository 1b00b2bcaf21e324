"""Prints what the API server answers to each bad object, as a table: `python -m tests.cluster.api.answers`.

Needs KUBECONFIG, kubectl, and the CRDs in the cluster. Nothing is stored: the objects are dry runs.
"""

import json
import subprocess

from tests.cluster.api.bad_objects import BAD


def main() -> None:
    """One line for each object of the table."""
    print("| object | field | answer |\n|---|---|---|")
    for bad in BAD:
        ended = subprocess.run(
            ["kubectl", "apply", "--dry-run=server", "-f", "-"],
            input=json.dumps(bad.obj),
            capture_output=True,
            text=True,
            check=False,
        )
        answer = " ".join(ended.stderr.split()) if ended.returncode else "ACCEPTED"
        print(f"| {bad.name} | `{bad.field}` | {answer.replace('|', chr(92) + '|')} |")


if __name__ == "__main__":
    main()
