"""Reading an object while connections break."""

import contextlib
import io
from typing import Any

from botocore.exceptions import BotoCoreError, HTTPClientError
from urllib3.exceptions import HTTPError

from records.blobs import StoreAway, StoreRefused, missing
from records.s3 import S3, Absent, ConditionFailed

BREAKS = (BotoCoreError, HTTPClientError, HTTPError, OSError)


class ResumingBody(io.RawIOBase):
    """Bytes [begin, end) of an object, not verified; where a connection breaks, the next one goes on from there.

    `body` is an answer that begins there already. With an `etag` every connection must find that object. Raises
    StoreAway if it does not, and after as many connections in a row as the settings say brought nothing.
    """

    def __init__(self, s3: S3, key: str, interval: tuple[int, int], body: Any = None, etag: str | None = None) -> None:
        self._s3, self._key, self._body = s3, key, body
        self._at, self._end = interval
        self._condition = {"IfMatch": etag} if etag else {}
        self._in_vain = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's buffer has no slices
        while self._at < self._end:
            data = self._read(min(len(buffer), self._end - self._at))
            if data:
                self._in_vain = 0
                self._at += len(data)
                memoryview(buffer)[: len(data)] = data
                return len(data)
            self._broke()
        return 0

    def _read(self, most_bytes: int) -> bytes:
        """Nothing if the connection broke."""
        if self._body is None:
            self._body = self._asked_for()
        try:
            return bytes(self._body.read(most_bytes))
        except BREAKS:
            return b""

    def _asked_for(self) -> Any:
        wanted = f"bytes={self._at}-{self._end - 1}"
        try:
            answer = self._s3.call("get_object", Key=self._key, Range=wanted, **self._condition)
        except Absent:
            raise missing("sha256:" + self._key.rpartition("/")[2]) from None
        except ConditionFailed:
            raise StoreAway("A blob was written anew while it was read; ask again.") from None
        if answer["ContentLength"] != self._end - self._at:  # rclone sends ranges as 200
            raise StoreRefused("The object store does not know ranges of an object. Use another, or ask its maker.")
        return answer["Body"]

    def _broke(self) -> None:
        self._close_body()
        self._in_vain += 1
        if self._in_vain >= self._s3.tries:
            raise StoreAway("The object store breaks off what it sends. Look at the store and the network.")
        self._s3.pause(self._in_vain)

    def _close_body(self) -> None:
        if self._body is not None:
            with contextlib.suppress(*BREAKS):
                self._body.close()
            self._body = None

    def close(self) -> None:
        self._close_body()
        super().close()
