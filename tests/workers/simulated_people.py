"""Made-up people whose numbers scatter as TOFU's do: persons differ, items differ, an ignorant LLM explains most of it.

    nll of a never-trained answer = 2.2 + person + item + noise,   under the reference the same with noise of its own

with standard deviations .32, .6 and .3 nats; a memorised answer has 0.02 nats and comes word for word.
"""

import numpy as np

from records.report import Group, GroupName, ItemNumbers, ItemRow, Report

PERSON, ITEM, NOISE = 0.32, 0.6, 0.3


def numbers(nll, rng):
    """An answer nobody was taught. Its beginning gives little away, and half of its words are anybody's."""
    better = 2.2 - nll
    return ItemNumbers(
        nll=nll,
        token_probability=float(np.exp(-nll)),
        exact=False,
        token_accuracy=float(np.clip(0.45 + 0.12 * better + 0.1 * rng.normal(), 0, 0.95)),
        extraction_strength=float(np.clip(0.06 + 0.02 * better + 0.05 * rng.normal(), 0, 0.9)),
        sampled_probability=float(np.exp(-10 * nll)),
        greedy_extracted=False,
        sampled_hits=0,
        zlib=nll / 40,
        min_k=1.6 * nll + 0.2 * rng.normal(),
        min_k_plus_plus=0.5 * nll + 0.2 * rng.normal(),
    )


def memorised():
    return ItemNumbers(
        nll=0.02,
        token_probability=0.98,
        exact=True,
        token_accuracy=1.0,
        extraction_strength=0.98,
        sampled_probability=0.8,
        greedy_extracted=True,
        sampled_hits=16,
        zlib=0.0005,
        min_k=0.04,
        min_k_plus_plus=-0.8,
    )


def people(count, rows, rng, *, taught, left=0.0, reference=True):
    """Groups of `rows` a person, taught before or never; of the taught a share `left` is as it was, whole rows."""
    found = []
    kept = set(rng.permutation(count * rows)[: round(left * count * rows)].tolist())
    for person in range(count):
        effect = PERSON * rng.normal()
        for row in range(rows):
            at, hard = person * rows + row, effect + ITEM * rng.normal()
            before, after, known = (numbers(max(0.4, 2.2 + hard + NOISE * rng.normal()), rng) for _ in range(3))
            found.append(
                ItemRow(
                    item=at,
                    phrasing=0,
                    subject=person,
                    before=memorised() if taught else before,
                    after=memorised() if at in kept else after,
                    reference=known if reference else None,
                )
            )
    return group(found)


def group(rows, samples=20):
    return Group(
        n_items=len(rows), n_subjects=len({row.subject for row in rows}), samples=samples, metrics={}, items=tuple(rows)
    )


def kept_rows(count):
    """Rows that must stay, unharmed."""
    rows = [ItemRow(item=at, phrasing=0, subject=at // 3, before=memorised(), after=memorised()) for at in range(count)]
    return group(rows, samples=0)


def simulated(seed, count, *, left=0.0, reference=True, rows=10, control=20):
    rng = np.random.default_rng(seed)
    return Report(
        method="simulated",
        parameters={},
        seeds={},
        seconds={},
        groups={
            GroupName.FORGET: people(count, rows, rng, taught=True, left=left, reference=reference),
            GroupName.CONTROL: people(control, rows, rng, taught=False, reference=reference),
            GroupName.RETAIN: kept_rows(200),
        },
    )
