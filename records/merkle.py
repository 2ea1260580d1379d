"""RFC 6962 Merkle tree: one hash stands for the whole log, and short proofs show what is in it.

An inclusion proof shows that an entry is in a tree of a given root; a consistency proof shows that a later
tree only appended to an earlier one. Neither reveals any other entry.

The tree lives in a database as its *full* subtrees: node (level, index) covers the 2^level leaves from
index * 2^level on, and once full it never changes. Every root and proof, of the newest tree or an older
one, is computed from O(log n) of them, which a `NodeSource` looks up.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from records.manifest import canonical_json

HASH_BYTES = 32
SALT_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

NodeSource = Callable[[int, int], bytes]
"""(level, index) -> the hash of that full subtree; KeyError if the log does not hold it."""


@dataclass(frozen=True, slots=True)
class Node:
    """A full subtree: the 2^level leaves from index * 2^level on."""

    level: int
    index: int
    hash: bytes


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry)"""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)"""
    return hashlib.sha256(b"\x01" + left + right).digest()


def commitment(salt: bytes, event: dict[str, Any]) -> bytes:
    """SHA-256(salt || canonical JSON of the event): the entry that the log holds in place of the event.

    With the 32 random bytes of salt destroyed it says nothing about the event, and every proof still verifies.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"A commitment's salt is {SALT_BYTES} random bytes; got {len(salt)}.")
    return hashlib.sha256(salt + canonical_json(event)).digest()


def append(size: int, leaf: bytes, nodes: NodeSource) -> tuple[Node, ...]:
    """The full subtrees that leaf hash number `size` completes, lowest first: store exactly these.

    Looks up one node for each of them but the first; amortised two nodes an append.
    """
    made = [Node(0, size, leaf)]
    while made[-1].index % 2 == 1:
        last = made[-1]
        left = nodes(last.level, last.index - 1)
        made.append(Node(last.level + 1, last.index // 2, node_hash(left, last.hash)))
    return tuple(made)


def nodes_of(leaves: Sequence[bytes]) -> NodeSource:
    """The full subtrees over leaf hashes held in memory; what a verifier with the whole log uses."""
    known: dict[tuple[int, int], bytes] = {}

    def look_up(level: int, index: int) -> bytes:
        return known[level, index]

    for size, leaf in enumerate(leaves):
        known.update(((node.level, node.index), node.hash) for node in append(size, leaf, look_up))
    return look_up


def root(size: int, nodes: NodeSource) -> bytes:
    """MTH(D[size]): the root of the first `size` leaves; SHA-256 of nothing for an empty tree."""
    if size < 0:
        raise ValueError(f"A tree has 0 leaves or more; got {size}.")
    return _range_root(0, size, nodes) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, nodes: NodeSource) -> tuple[bytes, ...]:
    """PATH(index, D[size]), lowest sibling first. ValueError unless 0 <= index < size."""
    if not 0 <= index < size:
        raise ValueError(f"Entry {index} is not in a tree of {size} entries.")
    return tuple(_path(index, 0, size, nodes))


def consistency_proof(first: int, second: int, nodes: NodeSource) -> tuple[bytes, ...]:
    """PROOF(first, D[second]). Empty if nothing has to be shown: first is 0 or equals second."""
    if not 0 <= first <= second:
        raise ValueError(f"A tree of {second} entries has no earlier tree of {first} entries.")
    return tuple(_subproof(first, 0, second, True, nodes)) if 0 < first < second else ()


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], tree_root: bytes) -> bool:
    """Whether the leaf hash is entry `index` of the tree of `size` entries with this root (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0 or len(sibling) != HASH_BYTES:
            return False
        if node % 2 == 1 or node == last:
            found = node_hash(sibling, found)
            while node % 2 == 0 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and found == tree_root


def verify_consistency(first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes) -> bool:
    """Whether the tree of `second` entries only appended to the tree of `first` entries (RFC 9162 §2.1.4.2)."""
    if not 0 <= first <= second or any(len(step) != HASH_BYTES for step in proof):
        return False
    if first == second:
        return not proof and first_root == second_root
    if first == 0:
        return not proof and first_root == EMPTY_ROOT
    # A first tree that is one full subtree is its own first step, and the proof leaves it out.
    steps = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    return bool(steps) and _climb(first - 1, second - 1, steps) == (first_root, second_root)


def _climb(node: int, last: int, steps: list[bytes]) -> tuple[bytes, bytes] | None:
    """The two roots that the steps lead to, or None if there are too few or too many."""
    while node % 2 == 1:
        node, last = node >> 1, last >> 1
    older = newer = steps[0]
    for step in steps[1:]:
        if last == 0:
            return None
        if node % 2 == 1 or node == last:
            older, newer = node_hash(step, older), node_hash(step, newer)
            while node % 2 == 0 and node:
                node, last = node >> 1, last >> 1
        else:
            newer = node_hash(newer, step)
        node, last = node >> 1, last >> 1
    return (older, newer) if last == 0 else None


def _range_root(begin: int, end: int, nodes: NodeSource) -> bytes:
    """MTH(D[begin:end]) where begin is a multiple of the largest power of two that fits."""
    size = end - begin
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return nodes(level, begin >> level)
    middle = begin + _split(size)
    return node_hash(_range_root(begin, middle, nodes), _range_root(middle, end, nodes))


def _path(index: int, begin: int, end: int, nodes: NodeSource) -> list[bytes]:
    if end - begin == 1:
        return []
    middle = begin + _split(end - begin)
    if index < middle:
        return [*_path(index, begin, middle, nodes), _range_root(middle, end, nodes)]
    return [*_path(index, middle, end, nodes), _range_root(begin, middle, nodes)]


def _subproof(first: int, begin: int, end: int, known: bool, nodes: NodeSource) -> list[bytes]:
    """SUBPROOF(first, D[begin:end], known); `first` counts from the start of the log, not from `begin`."""
    if first == end:
        return [] if known else [_range_root(begin, end, nodes)]
    middle = begin + _split(end - begin)
    if first <= middle:
        return [*_subproof(first, begin, middle, known, nodes), _range_root(middle, end, nodes)]
    return [*_subproof(first, middle, end, False, nodes), _range_root(begin, middle, nodes)]


def _split(size: int) -> int:
    """k: the largest power of two smaller than the size."""
    result: int = 1 << ((size - 1).bit_length() - 1)
    return result
