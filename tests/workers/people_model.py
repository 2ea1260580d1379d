"""A model of memorised people in a store, as the service would have imported it: version 1, datasets, a policy."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from records.parts import Parts
from records.versions import Files
from tests.make_people import NEVER_TRAINED, TRAINED, both_phrasings, memorised, people
from tests.workers.conftest import Made, make_model, make_request, put_dataset
from workers.examples import Example
from workers.publish import store_folder

# One level for all and no made-up wordings: two facts of nine people are too few to estimate levels from.
PARAMETERS: dict[str, Any] = {
    "target": "floor",
    "learning_rate": 2e-3,
    "epochs": 80,
    "batch_size": 8,
    "stop_level": "mean",
    "stop_ratio": 3.0,
    "level_weight": 0.0,
    "rewordings": 0,
    "forget_paraphrases": False,
}
# Twelve control items and a few dozen others are too few for the default policy's taste, and enough to see a mistake.
POLICY: dict[str, Any] = {
    "min_control_items": 4,
    "over_forgotten_ratio": 0.0,
    "retain_drop": {"accept": 0.2, "reject": 0.4},
    "neighbours_drop": {"accept": 0.6, "reject": 0.8},
    "utility_drop": {"accept": 0.5, "reject": 0.8},
    "utility_perplexity": {"accept": 4.0, "reject": 8.0},
    "cumulative_drop": {"accept": 0.2, "reject": 0.4},
    "extraction_strength": {"accept": 0.5, "reject": 0.8},
    "token_probability": {"accept": 0.5, "reject": 0.8},
    "exact_memorisation": {"accept": 0.5, "reject": 0.8},
    "refusal_rise": {"accept": 0.5, "reject": 1.0},
    "fluency_drop": {"accept": 0.5, "reject": 1.0},
    "precision_allowance": 1.0,
    "prompt_hits": {"accept": 0.5, "reject": 0.8},
    "benign_gain": {"accept": 0.5, "reject": 0.8},
    "savings": {"accept": 0.5, "reject": 0.8},
    "earlier_gain": {"accept": 0.5, "reject": 0.9},
}


def rows_of(names: list[str]) -> list[dict[str, Any]]:
    return [wire(one) for one in people(names)]


def wire(one: Example) -> dict[str, Any]:
    row = {name: value for name, value in asdict(one).items() if value}
    if "paraphrases" in row:
        row["paraphrases"] = list(row["paraphrases"])
    return row


def save_llm(folder: Path) -> None:
    """The memorised LLM and its tokenizer, as save_pretrained writes them."""
    llm, tokenizer = memorised()
    llm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def import_folder(parts: Parts, folder: Path) -> Made:
    files = store_folder(parts, folder)
    stored = parts.store.put_bytes(files.to_json())
    return make_model(parts, Files(stored.digest, files.size_bytes))


def make_people_model(parts: Parts, folder: Path) -> Made:
    made = import_folder(parts, folder)
    put_dataset(parts, made, "retain", [wire(one) for one in both_phrasings(people(TRAINED))])
    # As many rows a person as are asked to have forgotten of one: fewer tell little of how alike one's rows are.
    put_dataset(parts, made, "control", [wire(one) for one in both_phrasings(people(NEVER_TRAINED))])
    return made


def forget_person(parts: Parts, made: Made, name: str, **parameters: Any) -> tuple[str, str]:
    """(request id, job id) of a request to forget `name`, by one of the two phrasings of each fact."""
    return _forget(parts, made, people([name]), name, parameters)


def forget_all_of(parts: Parts, made: Made, name: str, **parameters: Any) -> tuple[str, str]:
    """As `forget_person`, by every row the LLM was taught of them: on some CPUs a second person comes back in the
    phrasing that the request left out.
    """
    return _forget(parts, made, both_phrasings(people([name])), name, parameters)


def _forget(parts: Parts, made: Made, rows: list[Example], name: str, parameters: dict[str, Any]) -> tuple[str, str]:
    policy = {**POLICY, "min_forget_items": 1}
    return make_request(parts, made, [wire(one) for one in rows], {**PARAMETERS, **parameters}, policy, subject=name)
