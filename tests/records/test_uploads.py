"""Uploads in both databases."""

from datetime import timedelta

import pytest

from records import uploads
from records.database import Database
from records.errors import NotFound
from records.manifest import Entry
from tests.make import digest, make_tenant


def test_a_path_that_no_database_holds_was_not_announced(database: Database) -> None:
    with database.transaction() as session:
        entries = [Entry("config.json", digest("a"), 1)]
        upload = uploads.begin(session, make_tenant(session).id, entries, timedelta(hours=1), "test")
        with pytest.raises(NotFound, match="no such file"):
            uploads.file(session, upload, "config.json\0")
