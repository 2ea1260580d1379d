"""What is asked under attack, and of whom."""

from records.report import GroupName
from tests.make_llm import make_tokenizer
from workers.attacks.questions import askings
from workers.examples import Example, Phrasing
from workers.probes import Probes


def rows(names: str, paraphrases: tuple[Phrasing, ...] = ()) -> list[Example]:
    return [
        Example(prompt=f"Is {name} a cook ?", completion=" yes", subject=name, paraphrases=paraphrases)
        for name in names.split()
    ]


def test_a_control_with_paraphrases_of_its_own_is_asked_in_the_same_frames() -> None:
    """Its guesses are what the forgotten rows' are held against: without any, one guess would be a leak."""
    control = rows("Dag Eve Fay", (Phrasing("Does Dag cook ?", " yes"),))
    probes = Probes(rows("Ada Bo"), control=control)
    (found,) = [one for one in askings(probes, [], make_tokenizer(), 64, 40, 0) if one.name == "reworded"]
    assert {name: len(asked) for name, asked in found.groups.items()} == {GroupName.FORGET: 6, GroupName.CONTROL: 9}


def test_forget_rows_with_paraphrases_of_their_own_are_not_put_in_frames() -> None:
    probes = Probes(rows("Ada", (Phrasing("Does Ada cook ?", " yes"),)), control=rows("Dag Eve"))
    assert "reworded" not in [one.name for one in askings(probes, [], make_tokenizer(), 64, 40, 0)]
