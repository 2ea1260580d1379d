"""What docs/methods.md says of the methods is said of each of them, and of no other."""

import re
from pathlib import Path

from records.params import ENTRIES

DOCS = Path(__file__).parents[2] / "docs" / "methods.md"


def test_each_method_has_its_row_in_the_docs():
    _, _, *lines = DOCS.read_text(encoding="utf-8").split("| method | paper |")[1].splitlines()
    named = [name for row in lines[: lines.index("")] for name in re.findall(r"`(\w+)`", row.split(" | ")[0])]
    assert sorted(named) == sorted(ENTRIES), "docs/methods.md: one row for each method, and none of another"
