"""The report's JSON Schema, for programs that read reports without this code.

python -m records.report_schema > docs/report.schema.json
"""

import json
import sys
from typing import Any

from records.report import Report


def schema() -> dict[str, Any]:
    """Of the report as it is stored, attested and served. `$id` changes with `schema_version`."""
    version = Report.model_fields["schema_version"].default
    named = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:lethe:report:{version}"}
    return {**named, **Report.model_json_schema(mode="serialization")}


def text() -> str:
    return json.dumps(schema(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
