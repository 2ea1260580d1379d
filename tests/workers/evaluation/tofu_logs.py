"""The logs TOFU's authors published, one number an item; tests that need them skip themselves without a copy."""

import json
import os
from pathlib import Path

import pytest

ADDRESS = "https://github.com/locuslab/tofu, data/ft_epoch5_*/eval_results/ds_size300"
LOGS = Path(os.environ.get("LETHE_TOFU", "../shared/data/tofu")) / "eval_logs"


def log(name):
    """Mean NLLs of each item's answer, its paraphrase and its wrong answers. `name` is RUN_forget or RUN_retain."""
    path = LOGS / f"{name}.json"
    if not path.exists():
        source = "eval_log_forget.json" if name.endswith("_forget") else "eval_log.json"
        pytest.skip(f"no eval_logs/{name}.json in LETHE_TOFU: it is {source} of {ADDRESS}")
    read = json.loads(path.read_text(encoding="utf-8"))
    return {key: list(read[key].values()) for key in ("avg_gt_loss", "avg_paraphrased_loss", "average_perturb_loss")}


def published_lines(name):
    """The objects or sentences of a file of TOFU's folder, one a line."""
    path = LOGS.parent / name
    if not path.exists():
        pytest.skip(f"no {name} in LETHE_TOFU: it is in https://github.com/locuslab/tofu or its data set")
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
