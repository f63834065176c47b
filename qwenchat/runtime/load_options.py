"""How the user asked for a model to be loaded, and what of that a load plan fulfils. Nothing is decided here."""

from msgspec import Struct

from qwenchat.engines.local.protocol import LoadPlan, Lora
from qwenchat.i18n import _, enumerated, sentences


class LoadOptions(Struct, frozen=True):
    """How the user asked for a model to be loaded; None follows the settings."""

    ctx: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    kv_type: str | None = None
    draft: str | None = None
    """The reference of the draft model, `auto` or `off`."""
    loras: tuple[Lora, ...] = ()
    with_peers: bool = True
    force: bool = False
    parallel: int = 1
    """How many requests are served together, each with a context window of that size."""
    scores: bool = False
    """Whether the chances of a prompt's tokens can be asked for."""
    beside_screen: bool = False
    """Whether a screen shows the answers while they are computed."""
    attach: bool = False
    """Whether a model may be used that another program has loaded and shares."""

    def agree_with(self, plan: LoadPlan) -> bool:
        """Return whether a model that was loaded by this plan is what was asked for."""
        asked = (
            (self.ctx, plan.n_ctx),
            (self.threads, plan.threads),
            (self.gpu_layers, plan.gpu_layers),
            (self.kv_type, plan.kv_type),
        )
        return (
            all(wanted in (None, loaded) for wanted, loaded in asked)
            and self.loras == plan.loras
            and (self.draft in (None, "auto") or (self.draft == "off" and plan.draft is None))
            and (self.with_peers or not plan.peers)
            and not self.scores
            and self.parallel <= plan.parallel
        )


def load_warnings(load: LoadPlan, *, chose_kv_type: bool = False, draft_problem: str = "") -> tuple[str, ...]:
    """Return what the user should know about a model that is loaded like this.

    `chose_kv_type` says that its KV type was not asked for, `draft_problem` why the draft model is not used that was.
    """
    warnings = []
    if chose_kv_type and load.kv_type != "f16":
        words = _("The KV cache is stored in 8 bits (q8_0), which makes room for {count:,} tokens.")
        warnings.append(words.format(count=load.n_ctx))
    if load.yarn_factor > 1:
        words = _("YaRN extends the context window {factor:.1f} times; answers to short texts get slightly worse.")
        warnings.append(words.format(factor=load.yarn_factor))
    if draft_problem:
        warnings.append(sentences(_("No draft model is used."), draft_problem))
    if load.peers:
        words = _("The model is spread over this computer and {peers}: what you write is computed there, too.")
        warnings.append(words.format(peers=enumerated(load.peers)))
    return tuple(warnings)
