"""The Certificate Transparency vectors, small trees worked out with hashlib, and properties over all sizes."""

import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records import merkle

# The eight inputs and roots that the Certificate Transparency implementations of RFC 6962 share.
CT_INPUTS = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
CT_LEAVES = [merkle.leaf_hash(entry) for entry in CT_INPUTS]


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def leaves_of(size):
    return [merkle.leaf_hash(number.to_bytes(4)) for number in range(size)]


def root_by_definition(leaves):
    """MTH of RFC 6962 §2.1, word for word, over leaf hashes."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else sha()
    k = max(2**power for power in range(10) if 2**power < len(leaves))
    return sha(b"\x01", root_by_definition(leaves[:k]), root_by_definition(leaves[k:]))


@pytest.mark.parametrize("size", range(9))
def test_roots_of_the_transparency_vectors(size):
    assert merkle.root(size, merkle.nodes_of(CT_LEAVES)).hex() == CT_ROOTS[size]


def test_three_leaves_by_hand():
    a, b, c = (sha(b"\x00", text) for text in (b"a", b"b", b"c"))
    ab = sha(b"\x01", a, b)
    nodes = merkle.nodes_of([a, b, c])
    assert merkle.root(3, nodes) == sha(b"\x01", ab, c)
    assert merkle.inclusion_proof(0, 3, nodes) == (b, c)
    assert merkle.inclusion_proof(2, 3, nodes) == (ab,)
    assert merkle.consistency_proof(2, 3, nodes) == (c,)
    assert merkle.consistency_proof(1, 3, nodes) == (b, c)


def test_the_seven_leaf_example_of_the_rfc():
    """RFC 6962 §2.1.3: PATH(0) = [b, h, l], PATH(3) = [c, g, l], PATH(4) = [f, j, k], PATH(6) = [i, k]."""
    d = CT_LEAVES[:7]
    g, h, i = sha(b"\x01", d[0], d[1]), sha(b"\x01", d[2], d[3]), sha(b"\x01", d[4], d[5])
    k = sha(b"\x01", g, h)
    ell = sha(b"\x01", i, d[6])
    nodes = merkle.nodes_of(d)
    assert merkle.inclusion_proof(0, 7, nodes) == (d[1], h, ell)
    assert merkle.inclusion_proof(3, 7, nodes) == (d[2], g, ell)
    assert merkle.inclusion_proof(4, 7, nodes) == (d[5], d[6], k)
    assert merkle.inclusion_proof(6, 7, nodes) == (i, k)
    assert merkle.consistency_proof(3, 7, nodes) == (d[2], d[3], g, ell)
    assert merkle.consistency_proof(4, 7, nodes) == (ell,)
    assert merkle.consistency_proof(6, 7, nodes) == (i, d[6], k)


def test_a_leaf_cannot_pass_for_a_node():
    left, right = leaves_of(2)
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)


@pytest.mark.parametrize("size", [*range(40), 100])
def test_incremental_root_is_the_definition(size):
    leaves = leaves_of(size)
    assert merkle.root(size, merkle.nodes_of(leaves)) == root_by_definition(leaves)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 20])
def test_every_inclusion_proof_verifies_at_every_size(size):
    leaves = leaves_of(20)
    nodes, tree_root = merkle.nodes_of(leaves), root_by_definition(leaves[:size])
    for index in range(size):
        proof = merkle.inclusion_proof(index, size, nodes)
        assert merkle.verify_inclusion(leaves[index], index, size, proof, tree_root)


def test_every_consistency_proof_verifies():
    leaves = leaves_of(20)
    nodes = merkle.nodes_of(leaves)
    roots = [root_by_definition(leaves[:size]) for size in range(21)]
    for second in range(21):
        for first in range(second + 1):
            proof = merkle.consistency_proof(first, second, nodes)
            assert merkle.verify_consistency(first, second, proof, roots[first], roots[second])


@given(st.integers(1, 300), st.data())
def test_a_changed_inclusion_proof_fails(size, data):
    leaves = leaves_of(size)
    nodes = merkle.nodes_of(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof, tree_root = list(merkle.inclusion_proof(index, size, nodes)), merkle.root(size, nodes)

    assert not merkle.verify_inclusion(leaves[index], index, size, [*proof, leaves[0]], tree_root)
    assert not merkle.verify_inclusion(sha(leaves[index]), index, size, proof, tree_root)
    assert not merkle.verify_inclusion(leaves[index], size, size, proof, tree_root)
    other = data.draw(st.integers(0, size - 1).filter(lambda found: found != index)) if size > 1 else -1
    assert not merkle.verify_inclusion(leaves[index], other, size, proof, tree_root)
    if proof:
        at, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
        changed = [*proof[:at], _flipped(proof[at], bit), *proof[at + 1 :]]
        assert not merkle.verify_inclusion(leaves[index], index, size, changed, tree_root)
        assert not merkle.verify_inclusion(leaves[index], index, size, proof[:-1], tree_root)


@given(st.integers(2, 300), st.data())
def test_a_changed_consistency_proof_fails(second, data):
    leaves = leaves_of(second)
    nodes = merkle.nodes_of(leaves)
    first = data.draw(st.integers(1, second - 1))
    proof = list(merkle.consistency_proof(first, second, nodes))
    roots = merkle.root(first, nodes), merkle.root(second, nodes)

    at, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
    changed = [*proof[:at], _flipped(proof[at], bit), *proof[at + 1 :]]
    assert not merkle.verify_consistency(first, second, changed, *roots)
    assert not merkle.verify_consistency(first, second, proof[:-1], *roots)
    assert not merkle.verify_consistency(first, second, [*proof, leaves[0]], *roots)
    assert not merkle.verify_consistency(first, second, proof, _flipped(roots[0], bit), roots[1])
    assert not merkle.verify_consistency(first, second, proof, roots[0], _flipped(roots[1], bit))


@given(st.integers(2, 200), st.data())
def test_a_rewritten_history_has_no_consistency_proof(second, data):
    first = data.draw(st.integers(1, second - 1))
    rewritten = data.draw(st.integers(0, first - 1))
    leaves = leaves_of(second)
    old_root = root_by_definition(leaves[:first])
    leaves[rewritten] = sha(leaves[rewritten])
    nodes = merkle.nodes_of(leaves)
    proof = merkle.consistency_proof(first, second, nodes)
    assert not merkle.verify_consistency(first, second, proof, old_root, merkle.root(second, nodes))


def test_a_part_of_the_tree_does_not_pass_for_the_tree():
    a, b, c = leaves_of(3)
    assert not merkle.verify_inclusion(a, 0, 2, [], a)
    assert not merkle.verify_inclusion(a, 0, 3, [b], merkle.node_hash(a, b))
    assert not merkle.verify_consistency(1, 3, [b], a, merkle.node_hash(a, b))
    assert not merkle.verify_consistency(2, 4, [], c, c)


def test_empty_and_equal_trees_need_no_proof():
    tree_root = root_by_definition(leaves_of(5))
    assert merkle.verify_consistency(0, 5, [], merkle.EMPTY_ROOT, tree_root)
    assert merkle.verify_consistency(5, 5, [], tree_root, tree_root)
    assert not merkle.verify_consistency(0, 5, [], tree_root, tree_root)
    assert not merkle.verify_consistency(5, 5, [tree_root], tree_root, tree_root)
    assert not merkle.verify_consistency(5, 5, [], tree_root, merkle.EMPTY_ROOT)
    assert not merkle.verify_consistency(6, 5, [], tree_root, tree_root)
    assert not merkle.verify_consistency(3, 5, [], tree_root, tree_root)


def test_append_yields_each_full_subtree_once():
    stored = {}
    for size, leaf in enumerate(leaves_of(64)):
        for node in merkle.append(size, leaf, lambda level, index: stored[level, index]):
            assert (node.level, node.index) not in stored
            stored[node.level, node.index] = node.hash
    assert len(stored) == 64 + 32 + 16 + 8 + 4 + 2 + 1
    assert stored[6, 0] == root_by_definition(leaves_of(64))


@pytest.mark.parametrize("size", [999, 1000, 1023, 1024, 1025])
def test_look_ups_grow_with_the_logarithm(size):
    known = merkle.nodes_of(leaves_of(size))
    asked = []

    def counting(level, index):
        asked.append((level, index))
        return known(level, index)

    most = 2 * math.ceil(math.log2(size))
    for ask in (
        lambda: merkle.root(size, counting),
        lambda: merkle.inclusion_proof(0, size, counting),
        lambda: merkle.inclusion_proof(size - 1, size, counting),
        lambda: merkle.consistency_proof(size // 3, size, counting),
        lambda: merkle.append(size, merkle.leaf_hash(b""), counting),
    ):
        asked.clear()
        ask()
        assert len(asked) <= most


@pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (0, 0)])
def test_there_is_no_proof_of_what_is_not_there(index, size):
    with pytest.raises(ValueError, match="not in a tree"):
        merkle.inclusion_proof(index, size, merkle.nodes_of(leaves_of(5)))


def test_impossible_sizes_are_refused():
    nodes = merkle.nodes_of(leaves_of(5))
    with pytest.raises(ValueError, match="0 leaves or more"):
        merkle.root(-1, nodes)
    with pytest.raises(ValueError, match="no earlier tree"):
        merkle.consistency_proof(5, 4, nodes)


def test_commitment_by_hand():
    salt = bytes(range(32))
    expected = sha(salt, b'{"count":2,"tag":"request.received"}')
    assert merkle.commitment(salt, {"tag": "request.received", "count": 2}) == expected
    assert merkle.commitment(bytes(32), {"tag": "request.received", "count": 2}) != expected


def test_a_short_salt_is_refused():
    with pytest.raises(ValueError, match="32 random bytes; got 31"):
        merkle.commitment(bytes(31), {})


def _flipped(data, bit):
    return bytes(byte ^ (1 << bit % 8 if place == bit // 8 else 0) for place, byte in enumerate(data))
