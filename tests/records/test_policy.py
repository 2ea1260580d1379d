"""Thresholds: read from what was stored before, tightened and never loosened."""

import json
import pickle

import pytest
from pydantic import ValidationError

from records.errors import Invalid
from records.policy import Loosened, Margin, Policy, tightened


def test_every_threshold_says_what_it_is_and_which_way_is_tighter():
    for name, field in Policy.model_fields.items():
        assert field.description, name
        assert field.json_schema_extra["tighter"] in {"lower", "higher"}, name


def test_a_wish_may_tighten():
    wished = {
        "extraction_strength": {"accept": 0.05, "reject": 0.2},
        "min_control_items": 40,
        "significance": 0.01,
        "undecided": "review",
        "membership_told": "reject",
        "retain_required": True,
    }
    found = tightened(Policy(), wished)
    assert found.extraction_strength == Margin(accept=0.05, reject=0.2)
    assert (found.min_control_items, found.undecided, found.retain_required) == (40, "review", True)
    assert found.retain_drop == Policy().retain_drop
    assert tightened(found, {}) == found


@pytest.mark.parametrize(
    ("field", "wish", "words"),
    [
        ("extraction_strength", {"accept": 0.05, "reject": 0.3}, "reject 0.3 is above 0.2"),
        ("extraction_strength", {"accept": 0.15, "reject": 0.2}, "accept 0.15 is above 0.1"),
        ("min_control_items", 4, "4 is below 10, which loosens: set it to at least 10"),
        ("over_forgotten_ratio", 0.1, "at least 0.2"),
        ("control_required", False, "false is below true"),
        ("undecided", "accept", "accept is below review"),
        ("membership_told", "report", "report is below review"),
        ("verbatim_tokens", 60, "at most 50"),
    ],
)
def test_a_wish_may_not_loosen(field, wish, words):
    base = Policy(undecided="review", membership_told="review")
    with pytest.raises(Loosened, match="never loosened") as raised:
        tightened(base, {field: wish, "min_forget_items": 5})
    (error,) = raised.value.errors
    assert error.pointer == f"/policy/{field}"
    assert words in error.detail
    assert pickle.loads(pickle.dumps(raised.value)).errors == raised.value.errors


def test_every_loosened_field_is_named():
    with pytest.raises(Loosened) as raised:
        tightened(Policy(), {"min_forget_items": 1, "savings": {"accept": 0.9, "reject": 0.9}}, "/defaults/policy")
    pointers = [error.pointer for error in raised.value.errors]
    assert pointers == ["/defaults/policy/min_forget_items", "/defaults/policy/savings", "/defaults/policy/savings"]


def test_what_does_not_exist_is_refused():
    for wished in ({"unheard_of": 1}, {"significance": 0.9}):
        with pytest.raises(ValidationError):
            tightened(Policy(), wished)
    with pytest.raises(Invalid) as raised:
        tightened(Policy(), {"interval_items": 20})
    assert raised.value.errors[0].pointer == "/policy/interval_items"


def test_a_policy_of_before_is_still_read():
    stored = {"memorised_gap": 0.05, "interval_items": 20, "retain_drop": {"accept": 0.01, "reject": 0.02}}
    found = Policy.model_validate(stored)
    assert (found.retain_drop.accept, found.savings) == (0.01, Policy().savings)
    assert Policy.model_validate(json.loads(found.model_dump_json())) == found


def test_equal_policies_have_equal_digests():
    assert Policy().digest() == Policy().digest() != Policy(min_forget_items=4).digest()
    with pytest.raises(ValidationError, match="accept"):
        Margin(accept=0.2, reject=0.1)
