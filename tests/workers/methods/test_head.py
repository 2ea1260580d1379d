"""From hidden states to logits, where an LLM does otherwise than most."""

import pytest
import torch

from tests.make_architectures import make_architecture
from tests.make_llm import make_llama
from tests.workers.methods.reference import FORGET
from workers.batches import collate
from workers.methods.head import UnknownHeadError, hidden_states, require_known_head

torch.set_num_threads(1)
BATCH = collate(FORGET, 0)


def test_the_states_of_an_llm_that_takes_itself_for_its_body_are_those_the_head_reads():
    llm = make_architecture("llama4")
    assert llm.base_model is llm
    require_known_head(llm, BATCH.ids_BT, BATCH.mask_BT)


def test_a_body_that_gives_no_last_state_is_said_in_words():
    llm = make_llama()
    llm.model.forward = lambda **_: object()
    with pytest.raises(UnknownHeadError, match="LlamaForCausalLM does not give its last hidden state"):
        hidden_states(llm, BATCH.ids_BT, BATCH.mask_BT)
