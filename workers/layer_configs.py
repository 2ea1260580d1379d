"""What is configured of each layer of an LLM."""

from typing import Any


def layer_configs(config: Any) -> list[Any]:
    """One for each layer: where layers differ, as Gemma 4's, the whole has no one number for all."""
    text = config.get_text_config()
    return list(getattr(text, "per_layer_config", None) or [text] * text.num_hidden_layers)
