"""A newcomer who starts at the README finds every page, and no link leads nowhere."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def linked(page: Path) -> list[Path]:
    """What a page links to in this project."""
    return [
        (page.parent / target).resolve() for target in LINK.findall(page.read_text()) if "://" not in target
    ]


def reachable() -> set[Path]:
    """The pages that one gets to from the README."""
    seen: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in seen:
            seen.add(page)
            ahead += [target for target in linked(page) if target.suffix == ".md" and target.exists()]
    return seen


def test_every_page_can_be_reached_from_the_readme() -> None:
    pages = {*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")}
    assert {str(page.relative_to(ROOT)) for page in pages - reachable()} == set()


def test_every_link_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in reachable()
        for target in linked(page)
        if not target.exists()
    ]
    assert broken == []
