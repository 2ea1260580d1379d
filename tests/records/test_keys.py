"""Keys are made once, by whoever comes first, and refused when others could have read them."""

import os
import stat
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)

from records.keys import KeyRing, KeysRefused
from records.signing import is_signed, parse_verifier_key, sign

ORIGIN = "lethe.test/audit"
NAMES = {"master.key", "pepper.key", "log.key", "model.key"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data" / "keys"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def pem(key, encryption=None):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def test_the_first_use_makes_four_private_files(folder):
    KeyRing.from_folder(folder, ORIGIN)
    assert set(contents(folder)) == NAMES
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_the_second_use_finds_the_same_keys(folder):
    first, second = KeyRing.from_folder(folder, ORIGIN), KeyRing.from_folder(folder, ORIGIN)
    assert (first.master, first.pepper, first.public()) == (second.master, second.pepper, second.public())
    assert len(first.master) == len(first.pepper) == 32
    assert first.master != first.pepper


def test_two_folders_share_nothing(tmp_path):
    one, two = (KeyRing.from_folder(tmp_path / name, ORIGIN) for name in ("one", "two"))
    assert one.master != two.master
    assert one.public() != two.public()


def test_the_public_keys_verify_what_the_private_keys_sign(folder):
    keys = KeyRing.from_folder(folder, ORIGIN)
    public = keys.public()
    name, log_key = parse_verifier_key(public.log_verifier_key)
    assert name == ORIGIN
    assert is_signed(log_key, sign(keys.log, b"head"), b"head")
    assert is_signed(load_pem_public_key(public.attestation_pem.encode()), sign(keys.log, b"x"), b"x")
    assert is_signed(load_pem_public_key(public.model_pem.encode()), sign(keys.model, b"x"), b"x")


def test_processes_that_start_at_once_agree(folder):
    """Four processes wait for one signal on their standard input, then all load the same absent folder."""
    script = (
        "import hashlib, pathlib, sys; from records.keys import KeyRing; sys.stdin.readline()\n"
        "keys = KeyRing.from_folder(pathlib.Path(sys.argv[1]), 'lethe.test/audit')\n"
        "print(hashlib.sha256(keys.master + keys.pepper).hexdigest(), keys.public())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert len(said) == 1
    assert set(contents(folder)) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_key_that_others_can_read_is_refused(folder, name, mode):
    """True for root too, whom the kernel would let read anything."""
    KeyRing.from_folder(folder, ORIGIN)
    (folder / name).chmod(mode)
    with pytest.raises(KeysRefused, match=rf"{name} can be read by other users; run 'chmod 600'"):
        KeyRing.from_folder(folder, ORIGIN)


def test_a_folder_that_others_can_enter_is_refused(folder):
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    with pytest.raises(KeysRefused, match="run 'chmod 700'"):
        KeyRing.from_folder(folder, ORIGIN)
    assert contents(folder) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_user_is_refused(folder):
    KeyRing.from_folder(folder, ORIGIN)
    os.chown(folder / "master.key", 12345, -1)
    with pytest.raises(KeysRefused, match=r"master\.key belongs to another user"):
        KeyRing.from_folder(folder, ORIGIN)


def test_a_link_in_place_of_a_key_is_refused(folder, tmp_path):
    KeyRing.from_folder(folder, ORIGIN)
    (folder / "pepper.key").rename(tmp_path / "elsewhere")
    (folder / "pepper.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeysRefused, match=r"pepper\.key is a link"):
        KeyRing.from_folder(folder, ORIGIN)
    (tmp_path / "elsewhere").unlink()  # a dangling link must not be mistaken for an absent key
    with pytest.raises(KeysRefused, match=r"pepper\.key is a link"):
        KeyRing.from_folder(folder, ORIGIN)


@pytest.mark.parametrize("name", ["master.key", "pepper.key"])
@pytest.mark.parametrize("size_bytes", [0, 31, 33])
def test_a_secret_of_the_wrong_length_is_refused_and_kept(folder, name, size_bytes):
    KeyRing.from_folder(folder, ORIGIN)
    (folder / name).write_bytes(bytes(size_bytes))
    with pytest.raises(KeysRefused, match=f"{name} is {size_bytes} bytes long and must be 32"):
        KeyRing.from_folder(folder, ORIGIN)
    assert (folder / name).read_bytes() == bytes(size_bytes)


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    KeyRing.from_folder(folder, ORIGIN)
    return contents(folder)


def test_the_same_keys_load_from_values(values):
    keys = KeyRing.from_values(values, ORIGIN)
    assert keys.master == values["master.key"]
    assert pem(keys.log) == values["log.key"]
    assert pem(keys.model) == values["model.key"]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_missing_value_is_named(values, name):
    with pytest.raises(KeysRefused, match=f"There is no {name}; give all four"):
        KeyRing.from_values({key: value for key, value in values.items() if key != name}, ORIGIN)


ED25519, P256, P384 = (
    Ed25519PrivateKey.generate(),
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP384R1()),
)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("log.key", b"garbage", "not an unencrypted private key"),
        ("log.key", b"", "not an unencrypted private key"),
        ("log.key", pem(ED25519, BestAvailableEncryption(b"pw")), "not an unencrypted private key"),
        ("log.key", pem(P256), "not an Ed25519 key"),
        ("model.key", pem(ED25519), "not on the curve P-256"),
        ("model.key", pem(P384), "not on the curve P-256"),
        ("model.key", pem(rsa.generate_private_key(65537, 2048)), "not on the curve P-256"),
    ],
)
def test_a_key_of_the_wrong_kind_is_named(values, name, value, why):
    with pytest.raises(KeysRefused, match=rf"{name} is {why}"):
        KeyRing.from_values(values | {name: value}, ORIGIN)


def test_no_secret_shows_in_the_repr(values):
    shown = repr(KeyRing.from_values(values, ORIGIN))
    assert shown == f"KeyRing(origin='{ORIGIN}')"
