"""Which examples a job trains on and which it only asks: decided before anything is tuned, by the seed alone.

Datasets are read as streams and sampled by a seeded reservoir, so their size does not matter. Nobody who asked to be
forgotten, now, before, still waiting or in vain, is ever trained on as a row to keep, nor asked as one.
"""

import hashlib
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from records.evidence import Kept, kept_of
from records.examples import ExampleRecord, letters
from records.orders import Order
from records.params import TrainingParameters, parse_parameters
from records.params.auto import ChoiceRecord
from records.policy import Policy
from records.rows import RequestRow
from records.sealing import PayloadShredded
from records.store import BlobMissing
from records.vault import Vault
from workers.control_rows import drawn_control
from workers.evaluation.sequence_matrix import to_ask_again
from workers.examples import Example, Probe, encode, fitting_windows, parse
from workers.fit import fit
from workers.lessons import UnlearnWork, forget_windows
from workers.loop import context_of
from workers.measure import MeasureSettings
from workers.probes import Probes, split_each
from workers.room import free_bytes, size_of, tokens_of
from workers.words import words_of

POOL_ROWS = 20_000
PROBE_ROWS = 400
CONTROL_ROWS = 120  # their sampled answers are the dearest part of a measurement
HELD_OUT_SHARE = 0.1
GENERAL_SHARE = 0.5
HELD_OUT_LEAST = 20
NEIGHBOUR_ROWS = 50
REPLAY_ROWS = 500


@dataclass(frozen=True)
class Plan:
    """Everything the two halves of an attempt need: what to train on, what to ask, under which policy.

    `replay` are all rows of earlier requests, the newest first; `unspoken` those of everybody else who asked, now or
    before, which no text to hold may show. `anew`: it is time to forget them all from the first version again, with
    `replay_dev`, the phrasings that guided the stop of their own jobs; `missed_anew`: it is, but a start of this job
    ended in the middle of it.
    """

    parameters: TrainingParameters
    method: str
    policy: Policy
    retain: tuple[Example, ...]
    replay: tuple[Example, ...]
    probes: Probes
    measuring: MeasureSettings
    notes: tuple[str, ...]
    may_fit: tuple[str, ...] = ()
    anew: bool = False
    missed_anew: bool = False
    replay_dev: tuple[Probe, ...] = ()
    unspoken: tuple[Example, ...] = ()

    def fitted_to(self, llm: Any, tokenizer: Any) -> "Plan":
        """The plan with those of `may_fit` changed that the memory at hand asks for, and a note of it."""
        work = self.work(self.parameters, None, anew=self.anew)
        tokens = tokens_of(work, tokenizer, context_of(llm)) if self.may_fit else None
        if tokens is None:
            return self
        found = fit(size_of(llm), self.method, self.parameters, self.may_fit, tokens, free_bytes(llm))
        return replace(self, parameters=found.parameters, notes=(*self.notes, *([found.note] if found.note else [])))

    def in_context(self, tokenizer: Any, context_tokens: int) -> "Plan":
        """The plan without the earlier rows that cannot be trained on: they must not fail a later request's job.

        Raises ExampleTooLong, UnlearningError for a row of this job's own: of the others alone it would be judged.
        """
        for at, one in enumerate(self.probes.forget):
            forget_windows(at, one, tokenizer, context_tokens)
        fitting = [at for at, one in enumerate(self.replay) if fitting_windows(one, tokenizer, context_tokens)]
        unfit = len(self.replay) - len(fitting)
        if not unfit:
            return self
        places = {at: place for place, at in enumerate(fitting)}
        return replace(
            self,
            replay=tuple(self.replay[at] for at in fitting),
            replay_dev=tuple(replace(one, item=places[one.item]) for one in self.replay_dev if one.item in places),
            notes=(*self.notes, f"{unfit} rows of earlier requests do not fit the context and were left out"),
        )

    def work(self, parameters: TrainingParameters, control_level: float | None, *, anew: bool = False) -> UnlearnWork:
        """What `workers.loop.unlearn` takes, for one attempt's parameters.

        `anew` forgets every earlier row as well, with the half of its paraphrases that guides the stop.
        """
        earlier = self.replay_dev if anew else ()
        first = len(self.probes.forget)
        return UnlearnWork(
            forget=(*self.probes.forget, *self.replay) if anew else self.probes.forget,
            retain=self.retain,
            dev_probes=(*self.probes.dev, *(replace(probe, item=first + probe.item) for probe in earlier)),
            replay=() if anew else self.replay[:REPLAY_ROWS],
            unspoken=self.unspoken,
            kept=self.measuring.kept,
            control=self.probes.control,
            control_level=control_level,
            method=self.method,
            parameters=parameters.model_dump(),
        )

    def forget_tokens(self, tokenizer: Any, context_tokens: int) -> int:
        """Labelled tokens of the whole forget set."""
        windows = (window for one in self.probes.forget for window in encode(one, tokenizer, context_tokens))
        return sum(window.labelled_tokens for window in windows)


@dataclass
class Forgotten:
    """Whoever and whatever must not be kept: subject references, and rows and their paraphrases letter for letter."""

    references: frozenset[str]
    rows: frozenset[str]
    reference_of: Callable[[str], str]
    _known: dict[str, bool] = field(default_factory=dict)

    def covers(self, record: ExampleRecord) -> bool:
        if any(letters(wording) in self.rows for wording in record.wordings()):
            return True
        if record.subject is None:
            return False
        if record.subject not in self._known:
            self._known[record.subject] = self.reference_of(record.subject) in self.references
        return self._known[record.subject]


def make_plan(job: Order, vault: Vault) -> Plan:
    """Open what the order names, in memory, and divide it. Raises PayloadShredded, PayloadCorrupt."""
    parameters = parse_parameters(job.lead.method, job.lead.parameters)
    chosen = ChoiceRecord.model_validate(job.lead.choice or {"by": "request"})
    seed = parameters.seed
    asking = [(vault.forget_set(request), _seed(request)) for request in job.requests]
    earlier, others = _others(job, vault)
    due = _consolidation_due(job, parameters)
    anew = due and not _came_to_no_end(job) and not job.shredded and all(earlier.values())
    forgotten = _forgotten(job, vault, [*chain.from_iterable(some for some, _ in asking), *others])
    forget, dev, sealed = split_each((_examples(some), own_seed) for some, own_seed in asking)
    replay, replay_dev, _ = split_each((_examples(earlier[one.id]), _seed(one)) for one in reversed(job.earlier))
    utility, general, utility_notes = _general(job, vault, forgotten, parameters)
    pool = _without(_pool(job, vault, forgotten, seed), utility, general)
    asked, kept, notes = hold_out(pool)
    probes = Probes(
        forget=forget,
        dev=dev,
        sealed=sealed,
        control=_control(job, vault, forgotten, seed),
        retain=asked,
        neighbours=neighbours(forget, kept, NEIGHBOUR_ROWS),
        utility=utility,
        earlier=asked_again(earlier, seed, everybody=anew),
    )
    return Plan(
        parameters=parameters,
        method=job.lead.method,
        policy=Policy.model_validate(job.lead.policy),
        retain=tuple(_trained(parameters, kept, general)),
        replay=tuple(replay),
        unspoken=tuple(_examples(others)),
        probes=probes,
        measuring=MeasureSettings(seed=seed, max_items=PROBE_ROWS, kept=_kept(job, vault)),
        notes=(*chosen.reasons, *notes, *utility_notes, *(() if anew else _not_anew(due, job, replay))),
        may_fit=chosen.open,
        anew=anew,
        missed_anew=due and _came_to_no_end(job),
        replay_dev=tuple(replay_dev),
    )


def consolidation_due(made: int, made_anew: int, every: int) -> bool:
    """Whether version `made` of a row is made from the first: at `every`, and then whenever half as many again as the
    last time have asked, `every` at least. So a request costs the same on average, however long the row is.
    """
    return every > 0 and made - made_anew >= max(every, made_anew // 2)


def _consolidation_due(job: Order, parameters: TrainingParameters) -> bool:
    """Never where the head is the first version: nothing is worn yet. Nor soon after one that came to nothing: it takes
    everybody's rows, and its failure another attempt.
    """
    due = consolidation_due(job.made + 1, job.made_anew, parameters.consolidate_every)
    return due and not job.missed_anew and job.first_manifest != job.base_manifest


def _came_to_no_end(job: Order) -> bool:
    """Whether the job was started before and no attempt tells that it consolidated: memory for everybody's rows may be
    what killed it, and the request must not wait for that a second time.
    """
    report = (job.attempts[0].report or {}) if job.attempts else {}
    return job.executions > 1 and not report.get("training", {}).get("anew")


def _kept(job: Order, vault: Vault) -> Kept | None:
    return kept_of({row.request_id: vault.kept_hashes(row) for row in job.hashed})


def _not_anew(due: bool, job: Order, replay: Sequence[Example]) -> Iterator[str]:
    """The first version knows what was shredded since: from there it could not be forgotten again. And what is
    replayed has a limit (`Plan.work`).
    """
    if due and _came_to_no_end(job):
        yield "it is time to consolidate, but a start of this job came to no end: it is left to a later one"
    elif due:
        yield "it is time to consolidate, but the examples of some earlier requests are destroyed: it was left out"
    if len(replay) > REPLAY_ROWS:
        yield f"of {len(replay)} rows of earlier requests, the newest {REPLAY_ROWS} were asked again while training"


def _general(
    job: Order, vault: Vault, forgotten: Forgotten, parameters: TrainingParameters
) -> tuple[list[Example], list[Example], tuple[str, ...]]:
    """(general rows to ask, general rows to train on, notes): no row is both, unless there is nothing else to train on.

    Half of them are trained on: what no row spells out, a row of requests wears down.
    """
    pool = _sample(job, vault, ("utility",), forgotten, POOL_ROWS, parameters.seed)
    asked, general, notes = hold_out(pool, GENERAL_SHARE)
    if parameters.retain_source == "utility":
        alone = "there is no utility dataset: the rows held in place are like the forget set's"
        return asked, general, notes if pool else (alone,)
    return asked, [] if notes else general, ()


def _trained(parameters: TrainingParameters, kept: list[Example], general: list[Example]) -> list[Example]:
    """General rows alone if the method wants such and there are any."""
    return general if parameters.retain_source == "utility" and general else kept + general


def _pool(job: Order, vault: Vault, forgotten: Forgotten, seed: int) -> list[Example]:
    """Rows like the forget set, each once. The training dataset's too: people of whom no row is held fade first."""
    rows = _sample(job, vault, ("retain", "training"), forgotten, POOL_ROWS, seed)
    return list({one.whole: one for one in reversed(rows)}.values())[::-1]


def _without(pool: list[Example], asked: list[Example], general: list[Example]) -> list[Example]:
    """Without the general rows, which a training dataset may hold as well, and half of which are only asked. All stay
    if the general rows are too few to be halved.
    """
    words = {letters(one.whole) for one in asked + general} if general and general != asked else set()
    return [one for one in pool if letters(one.whole) not in words]


def _others(job: Order, vault: Vault) -> tuple[dict[str, list[ExampleRecord]], list[ExampleRecord]]:
    """(each completed request's examples, those of everybody else who asked), as far as they are held."""
    earlier = {request.id: _if_held(vault, request) for request in job.earlier}
    wanted = (record for request in job.wanted for record in _if_held(vault, request))
    return earlier, [*chain.from_iterable(earlier.values()), *wanted]


def _forgotten(job: Order, vault: Vault, records: Sequence[ExampleRecord]) -> Forgotten:
    """Everybody behind these records, and the references kept of all others."""
    tenant_id = job.held.tenant_id
    return Forgotten(
        references=job.forgotten | {vault.subject_reference(tenant_id, one.named) for one in records if one.named},
        rows=frozenset(letters(wording) for record in records for wording in record.wordings()),
        reference_of=lambda subject: vault.subject_reference(tenant_id, subject),
    )


def reservoir(items: Iterable[Any], count: int, seed: int) -> list[Any]:
    """At most `count` items, every one as likely as any other, in their own order. One pass, O(count) memory."""
    chance = random.Random(seed)  # noqa: S311 - a reproducible sample, not a secret
    kept: list[tuple[int, Any]] = []
    for at, item in enumerate(items):
        if len(kept) < count:
            kept.append((at, item))
        elif (place := chance.randrange(at + 1)) < count:
            kept[place] = (at, item)
    return [item for _, item in sorted(kept, key=lambda pair: pair[0])]


def hold_out(
    pool: Sequence[Example], share: float = HELD_OUT_SHARE
) -> tuple[list[Example], list[Example], tuple[str, ...]]:
    """(rows to ask, rows to train on, notes): a share is asked and never trained on, if that leaves enough of both.

    A row's own words decide, so that what one job only asks no other job trains on, whoever else has gone since. Large
    pools are asked half the share, a quarter, and so on; a small one the fewest that say anything.
    """
    places = [_place(one) for one in pool]
    distinct = sorted(set(places))
    if len(distinct) < 2 * HELD_OUT_LEAST:
        note = "the retain rows are few: the same rows were trained on and asked"
        return list(pool), list(pool), (note,) if pool else ()
    while share * len(pool) > PROBE_ROWS:
        share /= 2
    below = max(share, distinct[HELD_OUT_LEAST])
    asked = [one for place, one in zip(places, pool, strict=True) if place < below]
    return asked, [one for place, one in zip(places, pool, strict=True) if place >= below], ()


def _place(row: Example) -> float:
    """From 0 to 1, as good as drawn."""
    return int.from_bytes(hashlib.sha256(letters(row.whole).encode()).digest()[-8:]) / 2**64


def neighbours(forget: Sequence[Example], pool: Sequence[Example], count: int) -> list[Example]:
    """The rows whose answers share the rarest words with the forget set's answers: same employer, same town.

    Rows of a pool no larger than `count` are not chosen from: then everybody is a neighbour, and the retain probes say
    it all.
    """
    if len(pool) <= count:
        return []
    seen_in = Counter(word for one in pool for word in _answer_words(one))
    wanted = {word for one in forget for word in _answer_words(one)}

    def closeness(one: Example) -> float:
        # Exact, whatever order a set has in this process: rows as close as each other must stay so.
        return math.fsum(1.0 / seen_in[word] for word in _answer_words(one) & wanted)

    scored = sorted(((closeness(one), -at) for at, one in enumerate(pool)), reverse=True)
    return [pool[-at] for score, at in scored[:count] if score > 0.0]


def asked_again(
    earlier: dict[str, list[ExampleRecord]], seed: int, *, everybody: bool = False
) -> dict[str, list[Example]]:
    """Earlier requests to measure, of those whose examples are held: the newest and a part of the older ones, now and
    then all; `everybody` where their weights are made anew.
    """
    held = [(request_id, records) for request_id, records in earlier.items() if records]
    which = range(len(held)) if everybody else to_ask_again(len(held), seed=seed)
    return {held[at][0]: _examples(held[at][1]) for at in which}


def _if_held(vault: Vault, request: RequestRow) -> list[ExampleRecord]:
    """Another request's examples; none if they were destroyed since its row was read."""
    try:
        return vault.forget_set(request)
    except (PayloadShredded, BlobMissing):
        return []


def _sample(
    job: Order, vault: Vault, roles: Sequence[str], forgotten: Forgotten, count: int, seed: int
) -> list[Example]:
    held = [vault.dataset(job.datasets[role]) for role in roles if role in job.datasets]
    return _examples(reservoir(_allowed(chain.from_iterable(held), forgotten), count, seed))


def _control(job: Order, vault: Vault, forgotten: Forgotten, seed: int) -> list[Example]:
    held = vault.dataset(job.datasets["control"]) if "control" in job.datasets else ()
    return _examples(drawn_control(_allowed(held, forgotten), lambda record: record.named, CONTROL_ROWS, seed))


def _allowed(records: Iterable[ExampleRecord], forgotten: Forgotten) -> Iterator[ExampleRecord]:
    return (record for record in records if not forgotten.covers(record))


def _seed(request: RequestRow) -> int:
    """Its own, whoever leads the job."""
    return int(request.parameters.get("seed", TrainingParameters.model_fields["seed"].default))


def _examples(records: Iterable[ExampleRecord]) -> list[Example]:
    return [parse(record.model_dump()) for record in records]


def _answer_words(one: Example) -> set[str]:
    return set(words_of(one.completion or one.text or ""))
