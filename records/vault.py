"""Examples at rest: sealed JSONL files in the store, opened in memory only.

Every request and every dataset has its own data key, wrapped by the master key and kept in its row. Deleting the
wrapped key destroys the examples, wherever copies of the file may lie.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from records import sealing
from records.evidence import GramHashes, evidence_key, gram_hashes, unpacked
from records.examples import ExampleRecord
from records.keys import KeyRing
from records.rows import DatasetRow, EvidenceRow, RequestRow
from records.sealing import Owner
from records.store import Store

FORGET = "forget-set"
DATASET = "dataset"


@dataclass(frozen=True)
class SealedFile:
    """A sealed file in the store; `size_bytes` is the plaintext's."""

    digest: str
    wrapped_key: bytes
    size_bytes: int


class Vault:
    """Seals and opens examples. Plaintext never touches the disk."""

    def __init__(self, store: Store, keys: KeyRing) -> None:
        self.store = store
        self.keys = keys

    def seal(self, owner: Owner, purpose: str, pieces: Iterable[bytes]) -> SealedFile:
        """Seal a stream under a fresh key of `owner`. An error of `pieces` leaves nothing in the store."""
        wrapped = sealing.new_wrapped_key(self.keys.master, owner)
        key = self.keys.open(wrapped, owner)
        with self.store.writer() as sink:
            size_bytes = sealing.seal_stream(pieces, sink, key, purpose)
        return SealedFile(sink.blob.digest, wrapped, size_bytes)

    def forget_set(self, request: RequestRow) -> list[ExampleRecord]:
        """The request's examples. Raises PayloadShredded when they were destroyed."""
        owner = Owner(request.tenant_id, request.id)
        return list(self._examples(owner, FORGET, request.payload_file, request.wrapped_key))

    def dataset(self, row: DatasetRow) -> Iterator[ExampleRecord]:
        """A dataset's examples, one by one."""
        return self._examples(Owner(row.tenant_id, row.id), DATASET, row.file_digest, row.wrapped_key)

    def hashed(self, texts: Iterable[str], tenant_id: str, words: int) -> GramHashes:
        """The n-grams of `words` words of the texts, hashed under the tenant's key."""
        return gram_hashes(texts, evidence_key(self.keys.pepper, tenant_id), words)

    def kept_hashes(self, row: EvidenceRow) -> GramHashes:
        """What is kept of a completed request as hashes, to be searched for in texts with `evidence.hits`."""
        return unpacked(row.hashes, evidence_key(self.keys.pepper, row.tenant_id), row.words)

    def subject_reference(self, tenant_id: str, subject: str) -> str:
        """The keyed hash under which a subject is kept."""
        return sealing.subject_reference(self.keys.pepper, tenant_id, subject)

    def _examples(
        self, owner: Owner, purpose: str, digest: str | None, wrapped_key: bytes | None
    ) -> Iterator[ExampleRecord]:
        key = self.keys.open(wrapped_key, owner)
        if digest is None:
            raise sealing.PayloadShredded("The sealed file is gone.")
        with self.store.open(digest) as file:
            for line in _lines(sealing.open_stream(file, key, purpose)):
                yield ExampleRecord.model_validate_json(line)


def jsonl(examples: Iterable[ExampleRecord]) -> Iterator[bytes]:
    """Examples as the lines that `Vault.seal` takes."""
    for example in examples:
        yield example.model_dump_json(exclude_defaults=True).encode() + b"\n"


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())
    if rest.strip():
        yield rest
