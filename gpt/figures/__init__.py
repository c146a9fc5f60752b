"""Pictures of a trained model: each function returns a matplotlib Figure (extra ``viz``).

    attention_maps(model, coder, "To be or not to be").savefig("attention.png")

The numbers of a picture come from plain functions (in ``inside``, ``embeddings``, ``gradients``,
``histograms`` and ``landscape``), which need no matplotlib:

>>> from gpt.config import GPTConfig
>>> from gpt.model import GPT
>>> model = GPT(GPTConfig(vocab_size=11, context=8, width=16, layers=2, heads=4))
>>> attention_weights(model, [1, 2, 3]).shape  # layers, heads, tokens, tokens
(2, 4, 3, 3)
"""

from .attention import attention_maps
from .embeddings import embedding_map, embedding_neighbours
from .gradients import gradient_flow
from .histograms import last_update, update_histograms, weight_histograms
from .inside import attention_weights
from .landscape import loss_landscape
from .lens import logit_lens
from .positions import position_table

__all__ = ["attention_maps", "attention_weights", "position_table", "embedding_neighbours",
           "embedding_map", "logit_lens", "gradient_flow", "weight_histograms", "last_update",
           "update_histograms", "loss_landscape"]  # fmt: skip
