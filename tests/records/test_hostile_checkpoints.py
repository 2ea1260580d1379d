"""Folders made to hurt whoever reads them: each is refused with its reason, before anything is loaded."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from records.checkpoints import CheckpointRefused, check_folder, inspect
from tests.records.test_checkpoints import file_of
from tests.service.conftest import safetensors, write_checkpoint

Spoil = Callable[[Path], None]


def config(**more: Any) -> Spoil:
    return lambda folder: rewrite(folder / "config.json", **more)


def tokenizer(**more: Any) -> Spoil:
    return lambda folder: rewrite(folder / "tokenizer.json", **more)


def rewrite(file: Path, **more: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **more}))


def template(source: str) -> Spoil:
    return lambda folder: (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": source}))


def weights(header: Any, data: bytes = b"1234", length: int | None = None) -> Spoil:
    return lambda folder: (folder / "model.safetensors").write_bytes(file_of(header, data, length))


def one(**changes: Any) -> Spoil:
    return weights({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4], **changes}})


def written(name: str, content: bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(content)


def sparse(name: str, size_bytes: int) -> Spoil:
    """A file of a size, that takes no room on the disk."""

    def spoil(folder: Path) -> None:
        with (folder / name).open("ab") as file:
            file.truncate(size_bytes)

    return spoil


def replacements(*contents: str, kind: str = "String") -> Any:
    steps = [{"type": "Replace", "pattern": {kind: "a"}, "content": content} for content in contents]
    return {"type": "Sequence", "normalizers": steps}


def linked(name: str, target: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return spoil


def a_pipe(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def nested(folder: Path) -> None:
    (folder / "/".join("d" * 20)).mkdir(parents=True)


def many_files(folder: Path) -> None:
    for number in range(10_001):
        (folder / f"{number}").touch()


def index_that_climbs(folder: Path) -> None:
    (folder.parent / "outside.safetensors").write_bytes(safetensors({"a": b"1"}))
    index = {"weight_map": {"a": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


TWICE = b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'
INNER_TWICE = b'{"a":{"dtype":"U8","shape":[4],"shape":[4],"data_offsets":[0,4]}}'
MANY_DIMENSIONS = {"a": {"dtype": "U8", "shape": [2**60] * 200_000, "data_offsets": [0, 4]}}

HOSTILE: dict[str, tuple[Spoil, str]] = {
    "a pickle": (written("pytorch_model.bin", b"\x80\x04"), "can carry code"),
    "a pickle in a folder": (lambda f: ((f / "x").mkdir(), (f / "x" / "y.PKL").write_bytes(b""))[0], "can carry code"),
    "a pickle called safetensors": (written("model.safetensors", b"\x80\x04\x95" + bytes(64)), "header"),
    "an oversized header": (weights({}, length=2**63), "longer than the file or than the format"),
    "a header of a gigabyte": (
        lambda folder: (written("model.safetensors", struct.pack("<Q", 2**30))(folder),
                        sparse("model.safetensors", 2**31)(folder))[0],
        "longer than the file or than the format",
    ),
    "overlapping tensors": (
        weights({n: {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]} for n in "ab"}), "overlap"),
    "a name twice": (weights(TWICE), "names something twice"),
    "a shape twice": (weights(INNER_TWICE), "names something twice"),
    "a shape of 2**62": (one(shape=[2**62, 2**62]), "larger than any model"),
    "an empty tensor of 2**64 rows": (one(shape=[0, 2**64], data_offsets=[0, 0]), "larger than any model"),
    "200,000 dimensions": (weights(MANY_DIMENSIONS), "larger than any model"),
    "a number of a million digits": (weights(b'{"a":' + b"9" * 10**6 + b"}"), "not JSON|without dtype"),
    "a negative offset": (one(data_offsets=[-4, 0]), "negative"),
    "offsets that run backwards": (one(data_offsets=[4, 0]), "do not fit"),
    "an offset that overflows": (one(data_offsets=[2**64 - 4, 2**64]), "larger than any model"),
    "an offset behind the end": (one(data_offsets=[0, 2**40], shape=[2**40]), "truncated"),
    "a name of a megabyte": (weights({"a" * 2**20: {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}), "names"),
    "code of its own": (config(auto_map={"AutoModel": "evil.Model"}), "auto_map"),
    "code of its own, deeper": (config(text_config={"x": [{"auto_map": {}}]}), "auto_map"),
    "quantised, deeper": (config(text_config={"quantization_config": {"bits": 4}}), "quantised"),
    "kernels from the Hub": (config(_attn_implementation="evil/kernel"), "kernels from elsewhere"),
    "kernels for a part": (config(text_config={"attn_implementation": {"": "a|evil/kernel"}}), "kernels from"),
    "a billion layers": (config(num_hidden_layers=10**9), "more layers"),
    "a billion layers, deeper": (config(text_config={"num_hidden_layers": 10**9}), "more layers"),
    "a width of a trillion": (config(hidden_size=10**12), "hidden_size"),
    "a width that is a float": (config(hidden_size=1e30), "hidden_size"),
    "a negative vocabulary": (config(vocab_size=-1), "vocab_size"),
    "a billion experts": (config(num_local_experts=10**9), "num_local_experts"),
    "a huge config": (sparse("config.json", 2**20 + 1), "larger than"),
    "a huge index": (sparse("model.safetensors.index.json", 2**26), "larger than"),
    "a huge tokenizer": (sparse("tokenizer.json", 2**27), "larger than"),
    "a huge vocabulary": (sparse("vocab.txt", 2**27), "larger than"),
    "deep JSON": (written("generation_config.json", b"[" * 100_000), "cannot be parsed"),
    "an index that climbs": (index_that_climbs, "names other files"),
    "a normalizer that doubles 40 times": (tokenizer(normalizer=replacements(*["aa"] * 40)), "huge"),
    "a decoder that doubles 40 times": (tokenizer(decoder=replacements(*["aa"] * 40)), "huge"),
    "a pattern of ten thousand characters": (
        tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a" * 5000}}), "pattern longer"),
    "padding to a terabyte": (tokenizer(padding={"strategy": {"Fixed": 10**12}}), "pads"),
    "many tokens around every text": (
        tokenizer(post_processor={"single": [{"SpecialToken": {"id": "x"}}] * 65}), "to every text"),
    "too many added tokens": (tokenizer(added_tokens=[0] * 200_001), "adds more"),
    "a link out": (linked("model.safetensors", "/etc/hostname"), "leads out"),
    "a link that climbs": (linked("merges.txt", "../../../../../../etc/hostname"), "leads out"),
    "a link to itself": (linked("merges.txt", "merges.txt"), "leads nowhere|broken"),
    "a link to a folder": (linked("merges.txt", "."), "no plain file"),
    "a pipe": (a_pipe, "no plain file"),
    "20 folders in each other": (nested, "nested"),
    "too many files": (many_files, "more than 10000"),
    "a template that leaves its sandbox": (template("{{ ''.__class__.__mro__ }}"), "underscore"),
    "a template that hides it": (template("{{ ''['__cla' + 'ss__'] }}"), "underscore"),
    "a template that joins it": (template("{{ ''['_' ~ '_class_' ~ '_'] }}"), "underscore"),
    "a template of a private name": (template("{{ messages._x }}"), "underscore"),
    "a template that formats": (template("{{ '{0.__class__}'.format(1) }}"), "underscore"),
    "a template that maps": (template("{{ messages | map(attribute='__class__') | list }}"), "underscore"),
    "a template with attr": (template("{{ messages | attr('x') }}"), "filter attr"),
    "a template of the loader": (template("{% include '/etc/passwd' %}"), "another template"),
    "a template that imports": (template("{% from 'a' import b %}"), "another template"),
    "a template of memory": (template("{{ 'a' * 10000000000 }}"), "huge numbers"),
    "a template of powers": (template("{{ 9 ** 9 ** 9 }}"), "huge numbers"),
    "a template of brackets": (template("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}"), "not a Jinja"),
    "a huge template": (template("a" * 300_000), "larger than"),
    "a template in a file": (written("chat_template.jinja", b"{{ x.__init__ }}"), "underscore"),
    "a template among many": (
        lambda f: ((f / "additional_chat_templates").mkdir(),
                   (f / "additional_chat_templates" / "rag.jinja").write_text("{{ x.__init__ }}"))[0],
        "underscore",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_folder_is_refused_with_its_reason(kind: str, tmp_path: Path) -> None:
    spoil, reason = HOSTILE[kind]
    folder = write_checkpoint(tmp_path / "root" / "m")
    inspect(str(folder), [tmp_path / "root"])
    spoil(folder)
    for check in (lambda: inspect(str(folder), [tmp_path / "root"]), lambda: check_folder(folder)):
        with pytest.raises(CheckpointRefused, match=reason) as refused:
            check()
        assert str(tmp_path) not in refused.value.detail
        assert [error.pointer for error in refused.value.errors] == ["/source/path"]


CHATML = """{%- if messages[0]['role'] == 'system' %}{% set offset = 1 %}{% else %}{% set offset = 0 %}{% endif %}
{%- set ns = namespace(found=false, count=0) %}
{%- for message in messages[offset:] %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{%- if message.content is string and '</think>' in message.content %}
{%- set ns.found = true %}{% set ns.count = ns.count + 1 %}
{{- message.content.split('</think>')[-1].lstrip('\\n') }}
{%- elif message.tool_calls is defined %}{{ message.tool_calls | map(attribute='function') | list | tojson(indent=4) }}
{%- elif message.role == 'assistant' %}{% generation %}{{ message['content'] | trim }}{% endgeneration %}
{%- else %}{{ bos_token + '<|im_start|>' + message['role'] + '\\n' + strftime_now('%d') }}{% continue %}{% endif %}
{%- endfor %}
{%- macro render(tool) %}{{ tool.name }}{% endmacro %}{% for tool in tools or [] %}{{ render(tool) }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


def test_what_ordinary_models_come_with_is_taken_in(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", num_hidden_layers=2, rope_theta=1e11, _attn_implementation="sdpa")
    named = {"chat_template": [{"name": "default", "template": CHATML}], "model_max_length": 10**30}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    (folder / "chat_template.jinja").write_text(CHATML)
    spaces = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}]}
    spaces["normalizers"] += replacements("\u2581")["normalizers"]
    rewrite(folder / "tokenizer.json", normalizer=spaces, padding={"strategy": {"Fixed": 512}})
    (folder / "README.md").write_text("words")
    check_folder(folder)
