"""Celery left out of a process that sends nothing: loading it would take a third of a runner's time."""

import sys
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

if "celery" not in sys.modules:
    celery: Any = ModuleType("celery")
    celery.Celery = MagicMock()
    sys.modules["celery"] = celery
