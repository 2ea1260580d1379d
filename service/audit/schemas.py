"""The audit log on the wire. Hashes are in base64, as the C2SP formats write them."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class EntryOut(BaseModel):
    """`commitment` = SHA-256(salt || canonical JSON of event); the log's leaf is SHA-256(0x00 || commitment)."""

    position: int
    event: dict[str, Any]
    salt: str
    commitment: str
    leaf_hash: str


class TreeHeadOut(BaseModel):
    object: Literal["tree_head"] = "tree_head"
    origin: str
    size: int
    root: str
    note: str = Field(description="The signed note (C2SP tlog-checkpoint) itself; this is what is signed.")


class InclusionOut(BaseModel):
    """Sibling hashes from the leaf up to the root of `head`."""

    object: Literal["inclusion_proof"] = "inclusion_proof"
    position: int
    leaf_hash: str
    hashes: list[str]
    head: TreeHeadOut


class ConsistencyOut(BaseModel):
    """Hashes that show the tree of `head` to extend the tree of `from_size` entries."""

    object: Literal["consistency_proof"] = "consistency_proof"
    from_size: int
    hashes: list[str]
    head: TreeHeadOut


class KeysOut(BaseModel):
    """Public keys. Take them over a channel you trust, once, and keep them: they are what you verify against."""

    object: Literal["keys"] = "keys"
    log_verifier_key: str = Field(description="C2SP vkey of the log.")
    attestation_pem: str
    model_pem: str
    verifying_key: str = Field(description="Ed25519 key of the signatures v1a of webhooks and callbacks.")
