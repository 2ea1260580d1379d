"""No route lets a tenant see, change or even notice another's: every operation of the OpenAPI document is called with
another tenant's ids, and once more with ids of nothing. Both must be refused in the same words after the same queries.

New routes are in these tests by themselves. One with a parameter or a field that `two_worlds.py` does not know fails.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import event
from starlette.testclient import TestClient

from records.parts import Parts, open_parts
from records.rows import AuditEntryRow
from records.tenants import SCOPES
from service.api_page.page import PATHS
from service.main import ROUTERS, create_app
from tests.conftest import Tenant, everything_stored, make_tenant, settings_in
from tests.service.two_worlds import (
    COUNTED,
    CURSORS,
    EVERYBODYS,
    ID_FIELDS,
    ID_PARAMETERS,
    LISTED,
    NEEDED,
    NOBODYS,
    PLAIN,
    PLAIN_FIELDS,
    PUBLIC,
    World,
    make_world,
)


@dataclass(frozen=True)
class Operation:
    """One operation of the document."""

    name: str
    method: str
    path: str
    parameters: tuple[tuple[str, str], ...]
    required: frozenset[tuple[str, str]]
    fields: tuple[str, ...]
    takes_body: bool

    @property
    def places(self) -> list[str]:
        """Where the operation takes something that can be another tenant's: its path, each query, each field."""
        in_path = ["path"] if any(where == "path" for where, _ in self.parameters) else []
        queries = [f"query:{name}" for where, name in self.parameters if (where, name) in QUERIES]
        return [*in_path, *queries, *(f"body:{name}" for name in self.fields if name in ID_FIELDS)]


QUERIES = {key for key in ID_PARAMETERS if key[0] == "query"}


def _operations() -> list[Operation]:
    app = FastAPI()
    for router in ROUTERS:
        app.include_router(router)
    document = app.openapi()
    return [
        _operation(document, path, method, found)
        for path, methods in document["paths"].items()
        for method, found in methods.items()
    ]


def _operation(document: dict[str, Any], path: str, method: str, found: dict[str, Any]) -> Operation:
    parameters = [((one["in"], one["name"]), one.get("required", False)) for one in found.get("parameters", [])]
    contents = found.get("requestBody", {}).get("content", {})
    schema = contents.get("application/json", {}).get("schema", {})
    return Operation(
        found["operationId"],
        method.upper(),
        path,
        tuple(key for key, _ in parameters),
        frozenset(key for key, required in parameters if required),
        tuple(_fields(document, schema)),
        bool(contents),
    )


def _fields(document: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    yield from schema.get("properties", {})
    for one in schema.get("anyOf", []):
        yield from _fields(document, one)


OPERATIONS = _operations()
KEYED = [one for one in OPERATIONS if one.name not in PUBLIC]
FOREIGN = [(one, place) for one in KEYED for place in one.places]


def _newest_actor(scene: "Scene") -> tuple[int, str]:
    with scene.parts.database.reading() as session:
        newest = session.query(AuditEntryRow).order_by(AuditEntryRow.position.desc()).first()
    assert newest is not None
    return newest.position, json.loads(newest.event)["actor"]


@dataclass
class Scene:
    """Two tenants who do not know each other, in one service."""

    client: TestClient
    parts: Parts
    ours: World
    theirs: World
    statements: list[str] = field(default_factory=list)

    @contextmanager
    def listening(self) -> Iterator[list[str]]:
        """The statements that the database is sent inside the block."""
        self.statements.clear()
        yield self.statements

    def call(self, operation: Operation, world: World, changed: Mapping[str, str] = {}, place: str = "") -> Any:
        """Call as the tenant of `world`, with `world`'s own values but for those of `place`."""
        values = {**world.values, **changed}
        in_path = values if place == "path" else world.values
        path = operation.path
        for where, name in operation.parameters:
            if where == "path":
                path = path.replace(f"{{{name}}}", in_path[ID_PARAMETERS[where, name]])
        query = {name: NEEDED["query", name] for where, name in operation.required if where == "query"}
        if place.startswith("query:"):
            query[place[6:]] = values[ID_PARAMETERS["query", place[6:]]]
        return self.send(operation, world.tenant, path, query, self._body(operation, world, values, place))

    def _body(self, operation: Operation, world: World, values: Mapping[str, str], place: str) -> Any:
        body = world.body(operation.name) if operation.takes_body else None
        return {**body, place[5:]: values[ID_FIELDS[place[5:]]]} if place.startswith("body:") else body

    def send(self, operation: Operation, tenant: Tenant | None, path: str, query: Any, body: Any = None) -> Any:
        headers = dict(tenant.headers) if tenant else {}
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/jsonl"
            return self.client.request(operation.method, path, params=query, headers=headers, content=body)
        return self.client.request(operation.method, path, params=query, headers=headers, json=body)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Made once: refused calls change nothing, and a test says so."""
    folder = tmp_path_factory.mktemp("isolation")
    root = folder / "imports"
    root.mkdir()
    parts = open_parts(settings_in(folder, root), migrates=True)
    with TestClient(create_app(parts)) as client:
        worlds = [make_world(client, parts, root, name) for name in ("ours", "theirs")]
        scene = Scene(client, parts, *worlds)
        event.listen(parts.database.engine, "before_cursor_execute", _remember(scene))
        yield scene
    parts.close()


def _remember(scene: Scene) -> Any:
    def remember(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("BEGIN", "UPDATE api_keys SET last_used_at")):  # once a minute, behind the answer
            scene.statements.append(statement)

    return remember


def _masked(answer: Any, *worlds: Mapping[str, str]) -> str:
    """The answer without what the caller sent and without what differs from call to call."""
    body = answer.json()
    shown = {**body, "instance": "", "request_id": ""}
    text = json.dumps(shown, sort_keys=True)
    for value in sorted({one for world in worlds for one in world.values()}, key=len, reverse=True):
        text = text.replace(value, "*") if len(value) > 3 else text
    return text


def test_every_parameter_and_field_is_known():
    known = {*ID_PARAMETERS, *CURSORS, *PLAIN, *NEEDED}
    unknown = {(one.name, key) for one in KEYED for key in one.parameters if key not in known}
    unknown |= {(one.name, name) for one in KEYED for name in one.fields if name not in {*ID_FIELDS, *PLAIN_FIELDS}}
    assert not unknown, "say in two_worlds.py what these name"
    assert {one.name for one in OPERATIONS} >= PUBLIC | EVERYBODYS


def test_the_document_tells_of_every_route(scene):
    """A route outside the document would be outside these tests; HEAD answers as its GET. The page that shows the
    document has no place in it, needs no key and knows of no tenant.
    """
    documented = {(one.method, one.path) for one in OPERATIONS}
    served = {(method, route.path) for route in scene.client.app.state.routes for method in route.methods}
    hidden = {(method, path.replace(":path}", "}")) for method, path in served if path not in PATHS} - documented
    assert {path for _, path in hidden} <= {path for method, path in documented if method == "GET"}
    assert {method for method, _ in hidden} <= {"HEAD"}


@pytest.mark.parametrize("operation", KEYED, ids=lambda one: one.name)
@pytest.mark.parametrize("key", [None, "lethe_00000000_unknown"], ids=["no key", "unknown key"])
def test_without_a_key_nothing_is_told(operation, key, scene):
    tenant = replace(scene.ours.tenant, key=key) if key else None
    path = operation.path
    for where, name in operation.parameters:
        if where == "path":
            path = path.replace(f"{{{name}}}", scene.ours.values[ID_PARAMETERS[where, name]])
    answer = scene.send(operation, tenant, path, {})
    assert answer.status_code == 401
    assert "ours" not in _masked(answer)


@pytest.mark.parametrize(("operation", "place"), FOREIGN, ids=lambda one: getattr(one, "name", one))
def test_what_is_another_tenants_is_as_if_it_were_not_there(operation, place, scene):
    before = everything_stored(scene.parts)
    with scene.listening() as heard:
        foreign = scene.call(operation, scene.theirs, scene.ours.values, place)
        after_foreign = list(heard)
    with scene.listening() as heard:
        nobodys = scene.call(operation, scene.theirs, NOBODYS, place)
        after_nobodys = list(heard)
    assert foreign.status_code in (403, 404), foreign.text
    assert foreign.status_code == nobodys.status_code
    assert dict(foreign.headers).keys() == dict(nobodys.headers).keys()
    worlds = (scene.ours.values, NOBODYS)
    assert _masked(foreign, *worlds) == _masked(nobodys, *worlds)
    assert after_foreign == after_nobodys, "another way through the code takes another time, and tells of the row"
    assert everything_stored(scene.parts) == before


@pytest.mark.parametrize("operation", [one for one in KEYED if one.method == "GET"], ids=lambda one: one.name)
def test_what_a_tenant_reads_of_its_own_holds_nothing_of_another(operation, scene):
    answers = [scene.call(operation, scene.theirs)]
    if ("query", "after") in operation.parameters:
        path, ids = answers[0].request.url.path, (scene.ours.values["cursor"].partition("_")[2], "f" * 32)
        for cursor in ("0",) if operation.name in COUNTED else [f"{LISTED[operation.name]}_{one}" for one in ids]:
            answers.append(scene.send(operation, scene.theirs.tenant, path, {"after": cursor}))
    for answer in answers:
        assert answer.status_code == 200, answer.text
        kept_apart = [scene.ours.tenant.id, scene.ours.tenant.key_id]
        kept_apart += [value for value in scene.ours.values.values() if len(value) > 12]
        assert not [value for value in kept_apart if value in answer.text and value not in scene.theirs.values.values()]


@pytest.mark.parametrize("operation", [one for one in KEYED if one.name in EVERYBODYS], ids=lambda one: one.name)
def test_what_is_everybodys_is_the_same_for_all(operation, scene):
    assert scene.call(operation, scene.ours).json() == scene.call(operation, scene.theirs).json()


@pytest.mark.parametrize("operation", KEYED, ids=lambda one: one.name)
def test_every_operation_asks_for_one_scope(operation, scene):
    """With a key of any other scope the answer is 403, before anything is looked up."""
    allowed = []
    for scope in SCOPES:
        lone = replace(scene.theirs, tenant=make_tenant(scene.parts, "theirs", [scope]))
        if scene.call(operation, lone, NOBODYS, operation.places[0] if operation.places else "").status_code != 403:
            allowed.append(scope)
    assert allowed == ["admin"] or (len(allowed) == 2 and allowed[1] == "admin"), "a scope of its own, and admin"


def test_the_same_calls_find_what_is_ones_own(scene):
    """The other tests would pass if every value were wrong; the owner's calls show that they are right. What changes
    something says in the log who did it. Last, since they change the world."""
    order = ["GET", "PUT", "PATCH", "POST", "DELETE"]
    for operation in sorted(KEYED, key=lambda one: order.index(one.method)):
        for place in operation.places or [""]:
            before = _newest_actor(scene)
            answer = scene.call(operation, scene.ours, {}, place)
            assert answer.status_code not in (401, 403, 404, 405, 422, 500), (operation.name, place, answer.text)
            if operation.method != "GET" and answer.is_success:
                position, actor = _newest_actor(scene)
                assert (position > before[0], actor) == (True, f"key:{scene.ours.tenant.key_id}"), operation.name
