"""Ids sort by age, also those made in one breath."""

from concurrent.futures import ThreadPoolExecutor

from records.base import new_id


def test_ids_sort_in_the_order_they_were_made() -> None:
    made = [new_id("req") for _ in range(5000)]
    assert made == sorted(made)
    assert {len(one) for one in made} == {len("req_") + 32}


def test_ids_of_many_threads_are_distinct() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_id("job"), range(5000)))
    assert len({one[: len("job_") + 14] for one in made}) == 5000
