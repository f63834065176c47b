"""How many tokens a model can see: the context window of its training, and the largest one with YaRN.

YaRN stretches a window without training and costs a little quality in short texts, so it is used only above the
window of the training, and only where the model's makers advise it: in the file's header, or for the larger sizes of
Qwen2 and Qwen2.5 (https://huggingface.co/Qwen/Qwen2-7B-Instruct, "Processing Long Texts"), whose files do not mention
it. A file that the catalogue does not know by its title is judged by its shape; relatives of the same shape that were
trained for long windows mostly have another base frequency: 10,000 in the small R1-distilled models, 10,000,000 in
Qwen2.5-1M.
"""

from msgspec import Struct

from qwenchat.models.catalogue import Catalogue
from qwenchat.models.fit import NATIVE_CONTEXT
from qwenchat.models.gguf import ModelHeader

_QWEN2_FREQ_BASE = 1_000_000.0
_QWEN2_LONGEST = 131_072
"""The window that the files of the base models state; they were trained with shorter ones as well."""
AS_THE_FILE_SAYS = 0.0
"""The factor for a file whose own scaling can't be left off."""


class ContextSizes(Struct, frozen=True, kw_only=True):
    """Context windows of a model, in tokens."""

    native: int
    """The window of the training."""
    limit: int
    """The largest window."""
    own_factor: float = 0.0
    """The YaRN factor in the file's header; 0 if the header has no such factor."""
    trained_scaling: str = ""
    """Another kind of scaling in the header, such as `linear`: the model was trained with it."""

    def yarn_factor(self, n_ctx: int) -> float:
        """Return the factor by which YaRN stretches a window of `n_ctx` tokens; 1 for not at all."""
        if self.trained_scaling:
            return AS_THE_FILE_SAYS
        return 1.0 if n_ctx <= self.native else self.own_factor or n_ctx / self.native


def context_sizes(header: ModelHeader, catalogue: Catalogue) -> ContextSizes:
    """Return a model's context sizes."""
    stated, rope = header.context_length or NATIVE_CONTEXT, header.rope
    if rope.scaling and rope.scaling != "yarn":
        return ContextSizes(native=stated, limit=stated, trained_scaling=rope.scaling)
    if rope.scaling and rope.factor > 1:
        native = min(stated, rope.original_context or stated)
        return ContextSizes(native=native, limit=max(stated, round(native * rope.factor)), own_factor=rope.factor)
    known = catalogue.by_title(header.name, header.layers, header.width)
    if known and known.context <= stated <= max(known.context, known.yarn_context):
        return ContextSizes(native=known.context, limit=max(known.context, known.yarn_context))
    for model in catalogue.models:
        shape = (model.shape.layers, model.shape.width, bool(model.shape.experts))
        is_same = shape == (header.layers, header.width, bool(header.experts))
        if is_same and rope.freq_base == _QWEN2_FREQ_BASE and model.context <= stated <= _QWEN2_LONGEST:
            return ContextSizes(native=model.context, limit=max(model.context, model.yarn_context))
    return ContextSizes(native=stated, limit=stated)
