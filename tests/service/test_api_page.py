"""The page at /docs: open to all, whole without another host, and a place where a key does not stay."""

import re
from pathlib import Path

import pytest

from service.api_page.page import PAGE, PATHS, START
from tests.service.conftest import problem

HERE = re.compile(r'(?:src|href)="([^"]+)"')


@pytest.mark.parametrize("path", sorted(PATHS))
def test_it_needs_no_key(path, client):
    shown = client.get(path)
    assert shown.status_code == client.head(path).status_code == 200
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert client.get(path, headers={"Authorization": "Bearer nonsense"}).status_code == 200
    refused = client.post(path)
    problem(refused, 405)
    assert refused.headers["allow"] == "GET, HEAD"


def test_what_it_names_is_there_and_ours(client):
    shown = client.get("/docs")
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    named = [name for name in HERE.findall(shown.text) if name != "data:,"]
    types = {name: client.get(f"/{name}").headers["content-type"].partition(";")[0] for name in named}
    assert types == {
        "docs/swagger-ui.css": "text/css",
        "docs/swagger-ui-bundle.js": "text/javascript",
        "docs/start.js": "text/javascript",
        "openapi.json": "application/json",
    }
    assert "SwaggerUIBundle" in client.get("/docs/swagger-ui-bundle.js").text


def test_it_loads_from_and_talks_to_this_service_alone(client):
    rules = dict(rule.split(" ", 1) for rule in client.get("/docs").headers["content-security-policy"].split("; "))
    assert rules["default-src"] == rules["frame-ancestors"] == "'none'"
    assert rules["script-src"] == rules["connect-src"] == "'self'"
    assert "//" not in PAGE.replace("<!DOCTYPE html>", "") + START
    assert "<script>" not in PAGE, "the policy runs no script inside the page"


def test_a_key_is_gone_with_the_page():
    assert "persistAuthorization: false" in START
    assert "validatorUrl: null" in START


def test_nothing_else_below_it_is_open(client, ours):
    problem(client.get("/docs/none"), 401)
    problem(client.get("/docs/none", headers=ours.headers), 404)


def test_where_the_readme_sends_its_reader(client):
    readme = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
    assert "/docs" in readme
    assert client.get("/docs").status_code == 200
