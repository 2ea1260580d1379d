"""Fixtures that other folders define and these tests use too."""

from tests.embedded import import_root_of_people
from tests.service.conftest import client, model

__all__ = ["client", "import_root_of_people", "model"]
