"""The rules about who may import whom, checked by a program and in a fresh process."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "transformers", "peft", "safetensors", "numpy", "workers")


@pytest.mark.slow
def test_imports_go_one_way():
    found = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.slow
@pytest.mark.parametrize("module", ["service.main", "records.parts", "workers.supervisor"])
def test_what_serves_loads_no_tensor_library(module):
    heavy = [name for name in HEAVY if name != "workers" or not module.startswith("workers")]
    code = f"""
import sys, time
begin = time.perf_counter()
import {module}
print(f"import {module}: {{time.perf_counter() - begin:.2f}} s", file=sys.stderr)
print(",".join(name for name in {heavy!r} if name in sys.modules))
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    sys.stdout.write(found.stderr)
    assert found.stdout.strip() == ""


def test_house_rules_are_kept():
    found = subprocess.run(
        [sys.executable, "-m", "tests.house_rules"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout
