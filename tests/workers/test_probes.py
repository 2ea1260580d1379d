"""Whom a question counts for: every phrasing of a row is about the row's subject, named or not."""

from collections import UserList
from dataclasses import replace

from records.report import GroupName
from tests.make_llm import make_llama, make_tokenizer
from workers.examples import Example, Phrasing
from workers.measure import MeasureSettings, measure
from workers.probes import Probes, earlier_of, groups_of, split_probes


def rows(*subjects, paraphrases=5):
    return [
        Example("p", f" c{at}", subject=one, paraphrases=tuple(Phrasing(f"{n}", f" c{at}") for n in range(paraphrases)))
        for at, one in enumerate(subjects)
    ]


def subjects_of(asked):
    return [one.subject for one in asked]


def test_the_paraphrases_of_a_row_are_about_one_even_where_nobody_is_named():
    groups = groups_of(Probes(forget=rows("Ada"), control=rows(None, None), retain=rows("Bo", None, "Bo")), 9, 0)
    assert subjects_of(groups[GroupName.CONTROL_PARAPHRASES]) == [0] * 5 + [1] * 5
    assert subjects_of(groups[GroupName.RETAIN_PARAPHRASES]) == [0] * 5 + [1] * 5 + [0] * 5
    assert [one.probe.phrasing for one in groups[GroupName.CONTROL_PARAPHRASES]] == [1, 2, 3, 4, 5] * 2


def test_rows_and_their_paraphrases_have_the_same_ordinals():
    # The first row has no paraphrases, and yet the others keep their subject's ordinal.
    control = [*rows("Ada", paraphrases=0), *rows("Bo", None, "Ada")]
    groups = groups_of(Probes(forget=rows("Cy"), control=control), 9, 0)
    whom = {one.probe.item: one.subject for one in groups[GroupName.CONTROL]}
    assert whom == {0: 0, 1: 1, 2: 2, 3: 0}
    assert all(one.subject == whom[one.probe.item] for one in groups[GroupName.CONTROL_PARAPHRASES])


def test_forget_probes_are_about_their_row():
    forget = rows("Ada", None, None, "Ada")
    dev, sealed = split_probes(forget, seed=1)
    groups = groups_of(Probes(forget, dev, sealed), 9, 0)
    assert subjects_of(groups[GroupName.FORGET]) == [0, 1, 2, 0]
    assert all((0, 1, 2, 0)[one.probe.item] == one.subject for one in groups[GroupName.FORGET_PARAPHRASES])
    assert {one.split for one in groups[GroupName.FORGET_PARAPHRASES]} == {"dev", "sealed"}


def test_a_paraphrase_that_is_trained_on_elsewhere_is_not_sealed():
    twins = [
        Example("a", " c", paraphrases=(Phrasing("b", " c"),)),
        Example("b", " c", paraphrases=(Phrasing("a", " c"),)),
    ]
    dev, sealed = split_probes(twins)
    assert ({one.item for one in dev}, sealed) == ({0, 1}, [])
    dev, sealed = split_probes([twins[0], replace(twins[1], paraphrases=())])
    assert ({one.item for one in dev}, sealed) == ({0}, [])
    chain = [
        Example(f"{at}", " c", paraphrases=(Phrasing(f"x{at}", " c"), Phrasing(f"x{at + 1}", " c"))) for at in range(4)
    ]
    apart = [*chain, *(replace(one, completion=" d") for one in rows(*"abcd"))]
    for seed in range(4):
        dev, sealed = split_probes(apart, seed=seed)
        assert {one.item for one in dev} >= {0, 1, 2, 3} or {one.item for one in sealed} >= {0, 1, 2, 3}
        assert not {one.example.whole for one in dev} & {one.example.whole for one in sealed}


def test_no_truth_share_is_taken_from_paraphrases_that_training_may_have_seen():
    forget = [replace(one, wrong=(" w",)) for one in rows("Ada", "Bo", "Cy", "Di")]
    dev, sealed = split_probes(forget, seed=1)
    control = [replace(one, wrong=(" w",)) for one in rows("Ed", "Flo")]
    llm, tokenizer = make_llama().eval(), make_tokenizer()
    found = measure(llm, tokenizer, Probes(forget, dev, sealed, control), MeasureSettings(samples=0)).groups
    having = {one.asked.probe.item for one in found[GroupName.FORGET] if one.numbers.truth_share is not None}
    assert having == {one.item for one in sealed} != set()
    assert all(one.numbers.truth_share is not None for one in found[GroupName.CONTROL])


def test_an_earlier_requests_rows_count_once_with_all_their_phrasings():
    (asked,) = earlier_of(Probes(rows("Ada"), earlier={"r": rows(None, None)})).values()
    assert subjects_of(asked) == [0] * 6 + [1] * 6
    assert [one.probe.phrasing for one in asked] == [0, 1, 2, 3, 4, 5] * 2


class Read(UserList[Example]):
    """Rows that count how often one is read."""

    times = 0

    def __getitem__(self, at):
        self.times += 1
        return super().__getitem__(at)

    def __iter__(self):
        return (self[at] for at in range(len(self)))


def test_of_many_rows_no_more_are_read_than_asked():
    rows = Read([Example(text=f"row {at}") for at in range(1000)])
    assert len(groups_of(Probes([], retain=rows), 40, seed=0)[GroupName.RETAIN]) == 40
    assert rows.times == 40
