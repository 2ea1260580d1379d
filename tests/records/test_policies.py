"""Policies by name: read from the operator's file, tightened by a model's defaults and by a request, never loosened."""

import json
from pathlib import Path
from typing import Any

import pytest

from records.errors import Invalid
from records.policies import NamedPolicy, policy_of_model, policy_of_request, read_policies
from records.policy import Margin, Policy

FILE: dict[str, Any] = {
    "pilot": {"min_control_items": 4, "retain_drop": {"accept": 0.2, "reject": 0.4}},
    "strict": {"retain_drop": {"accept": 0.01, "reject": 0.02}},
}


@pytest.fixture
def policies(tmp_path: Path) -> dict[str, Policy]:
    return read_policies(written(tmp_path, FILE))


def written(folder: Path, content: object) -> str:
    path = folder / "policies.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_without_a_file_there_is_the_built_in_policy_alone() -> None:
    assert read_policies("") == {"default": Policy()}


def test_a_policy_is_the_built_in_one_with_what_it_says(policies: dict[str, Policy]) -> None:
    assert sorted(policies) == ["default", "pilot", "strict"]
    assert policies["default"] == Policy()
    assert policies["pilot"] == Policy(min_control_items=4, retain_drop=Margin(accept=0.2, reject=0.4))


def test_the_operator_may_define_default_too(tmp_path: Path) -> None:
    assert read_policies(written(tmp_path, {"default": {"min_control_items": 4}}))["default"].min_control_items == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ({"x": {"retain_drop": {"accept": 2, "reject": 1}}}, "policy 'x', retain_drop"),
        ({"x": {"surprise": 1}}, "policy 'x', surprise"),
        ({"x": 5}, "policy 'x', the whole"),
        ({"a b": {}}, "rename 'a b'"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(content: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused:
        read_policies(written(tmp_path, content))
    assert refused.value.detail.startswith("LETHE_POLICIES_FILE: ")
    assert words in refused.value.detail
    assert "\n" not in refused.value.detail


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"none\.json cannot be read \(No such file"):
        read_policies(str(tmp_path / "none.json"))


def test_a_request_tightens_what_the_model_tightened(policies: dict[str, Policy]) -> None:
    of_model = {"name": "pilot", "min_control_items": 6}
    assert policy_of_model(policies, of_model).policy.min_control_items == 6
    found = policy_of_request(policies, of_model, {"min_control_items": 8})
    assert (found.name, found.policy.min_control_items, found.policy.retain_drop.accept) == ("pilot", 8, 0.2)
    assert policy_of_request(policies, of_model, {}) == policy_of_model(policies, of_model)


def test_nothing_wished_is_default(policies: dict[str, Policy]) -> None:
    assert policy_of_request(policies, {}, {}) == NamedPolicy("default", Policy())


@pytest.mark.parametrize(
    ("of_model", "wished", "pointer"),
    [
        ({}, {"min_control_items": 9}, "/policy/min_control_items"),
        ({}, {"retain_drop": {"accept": 0.03, "reject": 0.04}}, "/policy/retain_drop"),
        ({"name": "pilot", "min_control_items": 6}, {"min_control_items": 5}, "/policy/min_control_items"),
        ({"name": "pilot", "min_control_items": 6}, {"name": "pilot"}, "/policy/min_control_items"),
        ({"name": "strict"}, {"name": "default"}, "/policy/retain_drop"),
        ({"min_control_items": 20}, {"name": "strict"}, "/policy/min_control_items"),
        ({}, {"name": "none"}, "/policy/name"),
        ({}, {"name": ["strict"]}, "/policy/name"),
    ],
)
def test_what_would_loosen_is_refused_at_its_field(
    of_model: dict[str, Any], wished: dict[str, Any], pointer: str, policies: dict[str, Policy]
) -> None:
    with pytest.raises(Invalid) as refused:
        policy_of_request(policies, of_model, wished)
    assert pointer in [error.pointer for error in refused.value.errors]


def test_a_request_may_name_another_policy_that_is_no_looser_than_the_models(policies: dict[str, Policy]) -> None:
    assert policy_of_request(policies, {"name": "default"}, {"name": "strict"}).name == "strict"
    assert policy_of_request(policies, {}, {"name": "pilot"}) == NamedPolicy("pilot", policies["pilot"])
    both = {"name": "strict", "min_control_items": 20}
    assert policy_of_request(policies, {"min_control_items": 20}, both).policy.min_control_items == 20


def test_defaults_that_the_operator_came_to_forbid_say_how_to_mend_them(policies: dict[str, Policy]) -> None:
    for stale in ({"name": "gone"}, {"min_control_items": 1}, {"surprise": 1}):
        with pytest.raises(Invalid, match="PATCH /v1/models") as refused:
            policy_of_request(policies, stale, {})
        assert [error.pointer for error in refused.value.errors] == ["/model"]
