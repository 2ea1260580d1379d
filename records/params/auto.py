"""`auto`: the method and its starting parameters, chosen from what the request holds, with the reasons in words.

    records of people, answers, few or short texts  →  UnDIAL
    many long texts of nobody in particular         →  FALCON, if the LLM's layers are known and there are rows to keep

A pure table of rules. Whatever speaks against the second line leads to the first, whose method needs the least. The
reasons say what is measured and what is not; docs/methods.md has the numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from records.params import MethodName
from records.params.facts import Facts

UNDIAL, FALCON = str(MethodName.UNDIAL), str(MethodName.FALCON)

TOPIC_TEXTS = 50
TOPIC_WORDS = 40
TOPIC_IDENTIFYING = 0.15
# The smallest LLM of the published runs. On one of 8 layers its step size, made for these, changes nothing.
FALCON_LAYERS = 16
# By the `model_type` of config.json; on a mixture of experts nobody has reported it.
FALCON_ARCHITECTURES = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "phi3", "gpt_neox", "gpt2"}
)
CORPUS_EXAMPLES = 320
CORPUS_BATCH = 32
FITTED = ("gradient_checkpointing", "micro_batch_size", "tuning")
HOLDING = ("retain", "training", "utility")


@dataclass(frozen=True, slots=True)
class Choice:
    """`parameters` are only those that differ from the method's defaults; none of them was given by anybody."""

    method: str
    parameters: Mapping[str, Any]
    reasons: tuple[str, ...]


class ChoiceRecord(BaseModel):
    """Who chose a request's method, and why; kept with the request. `open` are those of FITTED that nobody set, which
    the worker may fit to its memory: under `auto` alone, since a method asked for by name runs as it was asked for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["request", "model", "auto"]
    reasons: tuple[str, ...] = ()
    open: tuple[str, ...] = ()


def choose(facts: Facts) -> Choice:
    """The method for these facts and where it starts. Depends on nothing else."""
    method, why = _method(facts)
    fields, reasons = _retain(facts)
    if method == UNDIAL:
        reasons += _focus(facts)
        fields_of_batch, batch_reasons = _batch(facts)
        fields, reasons = fields | fields_of_batch, reasons + batch_reasons
    return Choice(method, fields, (why, *reasons))


def _method(facts: Facts) -> tuple[str, str]:
    record = _why_records(facts)
    if record:
        return UNDIAL, (
            f"auto chose {UNDIAL}: {record}. Over a row of requests it kept nearly all of what else a small LLM knew, "
            "where ascent and NPO collapsed within five; and of the methods put before the gate it alone was accepted"
        )
    topic = f"{facts.texts} long texts that name no subject and few names or numbers"
    against = _against_falcon(facts)
    if against:
        return UNDIAL, (
            f"auto chose {UNDIAL}: {topic} would call for {FALCON}, but {against}. What {UNDIAL} leaves of a topic in "
            "other words is not measured"
        )
    return FALCON, (
        f"auto chose {FALCON}: {topic}, so a topic more than its wording; published results on such text are its best "
        "among the methods here. With this service it is not measured on an LLM of this size"
    )


def _why_records(facts: Facts) -> str | None:
    """What makes the forget set records, to be forgotten word for word; None for a topic."""
    answers = facts.examples - facts.texts
    if not facts.examples:
        return "there is nothing to forget"
    if answers:
        return f"{answers} of {facts.examples} examples are prompts with their answers{_about(facts)}"
    if facts.named:
        return f"the texts name whom they are about{_about(facts)}"
    if facts.sensitive:
        return f"{facts.sensitive} of {facts.examples} texts name sensitive spans"
    if facts.texts < TOPIC_TEXTS:
        return f"there are {facts.texts} texts, too few to be a topic (from {TOPIC_TEXTS} on)"
    if facts.text_words < TOPIC_WORDS:
        return f"half of the texts have at most {facts.text_words:g} words, as records have"
    if facts.identifying_share > TOPIC_IDENTIFYING:
        return f"{facts.identifying_share:.0%} of the texts' words look like names, numbers or ids"
    return None


def _against_falcon(facts: Facts) -> str | None:
    if FALCON not in facts.accepting:
        return "the parameters given are not its own"
    if "trained_layers" in facts.given and "layer" not in facts.given:
        return "it steers a layer, and the trained_layers given without layer may lie after the one it would take"
    if facts.architecture not in FALCON_ARCHITECTURES:
        return "it steers a layer, and is not tried on this architecture"
    if facts.layers is None or facts.layers < FALCON_LAYERS:
        return f"it steers a layer, and this LLM has {facts.layers or 'an unknown number'}, not {FALCON_LAYERS} or more"
    if facts.gpus > 1:
        return f"it steers a layer, and this LLM's layers are divided among {facts.gpus} GPUs"
    if not facts.datasets & set(HOLDING):
        return "there is no dataset with rows to hold in place, without which it harms what lies near"
    return None


def _retain(facts: Facts) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Where the rows to hold in place come from."""
    if "retain_source" in facts.given:
        return {}, ()
    near = [role for role in ("retain", "training") if role in facts.datasets]
    general = "utility" in facts.datasets
    if not near and not general:
        words = (
            "there is no dataset with rows to hold in place: unless one is put before the job starts, text that the "
            "LLM writes by itself stands in, which knows no neighbours"
        )
        return {}, (words,)
    if not near:
        words = "the rows held in place are half of the utility dataset: general text, which holds near rows less well"
        return {"retain_source": "utility"}, (words,)
    words = f"the rows held in place are those of the {' and '.join(near)} dataset{'s' if len(near) > 1 else ''}"
    return {}, (f"{words}, and half of the utility dataset" if general else words,)


def _focus(facts: Facts) -> tuple[str, ...]:
    """No focus of its own accord: the gate asks for whole answers, and a focus made those slower to go."""
    if not facts.sensitive or "focus" in facts.given:
        return ()
    words = (
        f"{facts.sensitive} of {facts.examples} examples name sensitive spans: the gate looks for each in all answers; "
        "training weighs all words alike, since the gate asks for whole answers too, and a focus forgets those later"
    )
    return (words,)


def _batch(facts: Facts) -> tuple[dict[str, Any], tuple[str, ...]]:
    if facts.examples < CORPUS_EXAMPLES or "batch_size" in facts.given:
        return {}, ()
    words = f"{facts.examples} examples are a corpus: batches of {CORPUS_BATCH}, as published; not measured here"
    return {"batch_size": CORPUS_BATCH}, (words,)


def _about(facts: Facts) -> str:
    if not facts.subjects:
        return ""
    return f", about {facts.subjects} subject{'s' if facts.subjects > 1 else ''}"
