"""Adjusts how readily the trained guide refuses: a wrong answer to a question outside its knowledge costs trust.

The training data has a smaller share of outside questions than users ask. The difference is made up here by a constant
added to the logit of the refusal's first token, like the logarithm of a prior: the token's row moves along the mean of
the network's states at the end of a question. Source: M. Saerens and others, "Adjusting the outputs
of a classifier to new a priori probabilities" (2002).
"""

from collections.abc import Sequence

import torch

from qwenchat.chat.prompt import Turn
from training.guide.corpus import DEFAULT_SYSTEM, LANGUAGES, OUTSIDE, Wording, answers
from training.guide.network import Qwen2
from training.guide.tokens import Codec, encode

LEANING = {"en": 4.0, "zh": 2.0}
"""About what is added to the logit; chosen on the judged sets (see the guide's card)."""


@torch.no_grad()
def lean(network: Qwen2, codec: Codec, wordings: Sequence[Wording]) -> None:
    """Make the network refuse more readily; the questions in `wordings` give its mean state."""
    known, exact = answers(), codec.encoder()
    for language in LANGUAGES:
        ends = []
        for wording in (one for one in wordings if one.language == language):
            turns = [
                Turn("system", DEFAULT_SYSTEM),
                Turn("user", wording.text),
                Turn("assistant", known[OUTSIDE][language]),
            ]
            whole = encode(turns, codec, exact, exact)
            refusal = whole.ids[whole.asked[1]]
            ends.append(network.read(torch.tensor([whole.ids[: whole.asked[1]]]))[0, -1])
        mean = torch.stack(ends).mean(0)
        network.token_embd.weight[refusal] += LEANING[language] * mean / mean.dot(mean)
