"""The conditions of a PropertySet: Ready (Valid; InvalidSpec) and Stalled (AsExpected; InvalidSpec)."""

from collections.abc import Sequence

from buildgrid_operator.status.conditions import READY, STALLED, Verdict
from buildgrid_operator.status.messages import listed


def property_set_verdicts(problems: Sequence[str], schedulers: Sequence[str]) -> tuple[Verdict, ...]:
    """`problems` of the spec (`field: what to do`), and names of the Schedulers that use it."""
    if problems:
        words = f"{'; '.join(problems)} (Schedulers keep the content before)"
        return (
            Verdict(READY, "False", "InvalidSpec", words),
            Verdict(STALLED, "True", "InvalidSpec", words),
        )
    users = (
        f"used by {listed(sorted(schedulers))}"
        if schedulers
        else "no Scheduler names it in spec.propertySetRef"
    )
    return (Verdict(READY, "True", "Valid", users), Verdict(STALLED, "False", "AsExpected", ""))
