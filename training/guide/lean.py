"""Sets how readily the guide refuses, once it is trained: a question that it does not know costs trust when answered.

Training shows it as many outside questions as it can bear, fewer than people ask. What is missing is added here to the
logit of the refusal's first token, as one adds the logarithm of a prior: the token's row moves along the mean of what
the network makes of a question's end, which all questions share. Source: M. Saerens and others, "Adjusting the outputs
of a classifier to new a priori probabilities" (2002).
"""

from collections.abc import Sequence

import torch

from qwenchat.chat.prompt import DEFAULT_SYSTEM, Turn
from training.guide.corpus import LANGUAGES, OUTSIDE, Wording, answers
from training.guide.network import Qwen2
from training.guide.tokens import Codec, encode

LEANING = {"en": 4.0, "zh": 2.0}
"""What is added to the logit, about; chosen on the judged sets, as their card says."""


@torch.no_grad()
def lean(network: Qwen2, codec: Codec, wordings: Sequence[Wording]) -> None:
    """Make the network refuse more readily, by what it makes of some questions."""
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
