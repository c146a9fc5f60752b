"""The choices of a run: their ranges and types, and the way into a file and back."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from tiny_run import TINY

from gpt.config import GPTConfig
from gpt.presets import PRESETS, RunConfig


@pytest.mark.parametrize("config", [*PRESETS.values(), TINY, RunConfig(top_k=3, prompt="é\0")])
def test_config_round_trip(config: RunConfig) -> None:
    again = RunConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert again == config
    model = config.model(500)
    assert GPTConfig.from_json(json.loads(json.dumps(model.to_json()))) == model


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr": -1.0}, "lr must be a number of at least 0, not -1.0"),
        ({"lr": math.nan}, "lr must be a number of at least 0, not nan"),
        ({"lr": math.inf}, "lr must be a number of at least 0, not inf"),
        ({"min_lr": -1e-9}, "min_lr must be"),
        ({"weight_decay": math.nan}, "weight_decay must be"),
        ({"clip": -1.0}, "clip must be"),
        ({"temperature": -0.1}, "temperature must be"),
        ({"temperature": math.nan}, "temperature must be"),
        ({"batch": 0}, "batch must be at least 1, not 0"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"eval_every": -5}, "eval_every must be at least 1"),
        ({"eval_batches": 0}, "eval_batches must be at least 1"),
        ({"save_every": 0}, "save_every must be at least 1"),
        ({"warmup": -1}, "warmup must not be negative"),
        ({"seed": -1}, "seed must not be negative"),
        ({"sample_tokens": -1}, "sample_tokens must not be negative"),
        ({"beta1": 1.0}, r"beta1 must be in \[0, 1\)"),
        ({"beta2": math.nan}, r"beta2 must be in \[0, 1\)"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"vocab_size": 0}, "vocab_size must be at least 1"),
        ({"prompt": ""}, "prompt must not be empty"),
        ({"heads": 3}, "3 heads do not divide the width 128"),
        ({"context": 0}, "context must be a positive integer, not 0"),
        ({"layers": -1}, "layers must be a positive integer"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"dropout": math.nan}, r"dropout must be in \[0, 1\)"),
        ({"positions": "rope"}, "positions must be one of learned, sinusoidal, not 'rope'"),
    ],
)
def test_values_out_of_range(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        RunConfig(**change)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ([], r"a RunConfig cannot be \[\]"),
        ({"steps": 2.5}, "steps is 2.5, which is not of the type int"),
        ({"steps": True}, "steps is True, which is not of the type int"),
        ({"bias": 1}, "bias is 1, which is not of the type bool"),
        ({"top_k": "3"}, "top_k is '3', which is not of the type int or null"),
        ({"lr": None}, "lr is None, which is not of the type float"),
        ({"b": 1, "a": 2}, "unknown fields: a, b"),
    ],
)
def test_fields_of_another_type(fields: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        RunConfig.from_json(fields)


def test_a_rate_may_be_a_whole_number() -> None:
    assert RunConfig.from_json({"lr": 1, "top_k": None}).lr == 1
