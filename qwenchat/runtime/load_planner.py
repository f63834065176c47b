"""Decides how a model is loaded: context window, KV type, YaRN, GPU layers, threads, layers on peers, draft model.

A draft model is used where a much smaller one of the same family fits comfortably beside a model.
Peers are used only for what this machine has no room for, and only then is a worker connected to them.
What would not fit is refused here, before the operating system kills the worker for lack of memory. The numbers are
predictions of `models.fit`; `--force` overrides them.
"""

import os
from collections.abc import Callable, Sequence

from msgspec import Struct, structs

from qwenchat.chat.sampling import UNSET, Sampling, qwen2_defaults
from qwenchat.config import ModelSettings
from qwenchat.engines.local.failures import OTHER_MODEL, with_less
from qwenchat.engines.local.loaded_model import PlannedModel
from qwenchat.engines.local.peers import WITHOUT_PEERS
from qwenchat.engines.local.protocol import Device, DeviceShare, DraftModel, LoadPlan
from qwenchat.errors import CannotLoad, QwenchatError, Recovery, RecoveryKind, RemoteUnreachable
from qwenchat.i18n import _, enumerated
from qwenchat.models import fit
from qwenchat.models.catalogue import Catalogue
from qwenchat.models.context_sizes import context_sizes
from qwenchat.models.fit import KV_BYTES, NATIVE_CONTEXT, Fit, Resources, Verdict
from qwenchat.models.gguf import ModelHeader
from qwenchat.models.library import LocalModel
from qwenchat.runtime.load_options import LoadOptions, load_warnings
from qwenchat.runtime.model_choice import is_guide
from qwenchat.text.safe import human_size

_MOST_PADDING = 128
"""Tokens by which the vocabularies of one family differ in size."""
_DRAFT_SHARE = 10
"""A draft model is chosen where it reads at most one of so many bytes for a token."""


class LoadPlanner(Struct, frozen=True, kw_only=True):
    """Plans how models are loaded on one machine."""

    resources: Resources
    devices: Sequence[Device]
    """The accelerators, with those of the peers that the worker is connected to."""
    cores: int
    settings: ModelSettings
    allowed_peers: tuple[str, ...] = ()
    """Those of the settings' peers that may be connected to."""
    sampling: Sampling
    """The settings'; what they leave open follows the model's makers."""
    catalogue: Catalogue
    draft_models: Callable[[str], Sequence[LocalModel]] = lambda wanted: ()
    """Returns the models of which one may be the draft model, given its reference, or `auto`; it may raise."""

    def plan(
        self, header: ModelHeader, *, identity: str, reference: str, name: str, options: LoadOptions
    ) -> PlannedModel:
        """Return how to load a model, which users know as `name`, or which peers have to be connected for that.

        Raises CannotLoad, with the numbers, when it does not fit, and RemoteUnreachable for a peer that is forbidden.
        """
        sizes = context_sizes(header, self.catalogue)
        if options.ctx and options.ctx > sizes.limit:
            raise _beyond(name, options.ctx, sizes.limit)
        asked = options.ctx or min(self.settings.context, sizes.limit)
        layers = self.settings.gpu_layers if options.gpu_layers is None else options.gpu_layers
        kv_type = options.kv_type or self.settings.kv_type
        fits = self._fit(
            header,
            asked * options.parallel,
            native=sizes.native * options.parallel,
            kv_type=kv_type,
            layers=layers,
        )
        n_ctx = fits.n_ctx // options.parallel
        needs_peers = layers != 0 and (not fits.is_roomy or min(layers, header.layers) > fits.gpu_layers)
        peers = self.settings.rpc if needs_peers and options.with_peers and not self.resources.peers else ()
        if fits.verdict is Verdict.TOO_LARGE and not (options.force or peers):
            raise _too_large(header, name, fits)
        if forbidden := [peer for peer in peers if peer not in self.allowed_peers]:
            raise _offline(name, forbidden)
        beside_ram = fits.gpu_layers + sum(fits.peer_layers)
        whole = beside_ram == header.layers  # then the output matrix goes along
        gpu_layers = beside_ram + whole if layers < 0 or fits.peer_layers else min(layers, header.layers + 1)
        known = self.catalogue.by_title(header.name, header.layers, header.width)
        wanted = options.draft or self.settings.draft
        draft, draft_memory, problem = None, 0, ""
        if wanted != "off":
            draft, draft_memory, problem = self._draft(
                wanted, header, fits, n_ctx=n_ctx, family=known.family if known else ""
            )
        load = LoadPlan(
            path=os.fsencode(header.path),
            identity=identity,
            n_ctx=n_ctx,
            threads=options.threads or self.settings.threads or self.cores,
            gpu_layers=gpu_layers,
            kv_type=fits.kv_type,
            flash_attention=bool(gpu_layers) or fits.kv_type != "f16" or n_ctx > NATIVE_CONTEXT,
            mmap=self.settings.mmap,
            yarn_factor=sizes.yarn_factor(n_ctx),
            native_ctx=sizes.native,
            parallel=options.parallel,
            scores=options.scores,
            draft=draft,
            beside_screen=options.beside_screen,
            loras=options.loras,
            split=self._split(fits),
            peers=self._peers_in(fits),
        )
        makers = header.advised.over(known.sampling if known else UNSET)
        advised = makers.over(qwen2_defaults(header.layers, header.width))
        return PlannedModel(
            plan=load,
            reference=reference,
            name=name,
            defaults=self.sampling.over(advised),
            advised=advised,
            warnings=load_warnings(load, chose_kv_type=kv_type == "auto", draft_problem=problem),
            peers=peers,
            files=header.parts,
            memory=fits.memory.total + draft_memory,
            reads_history=not is_guide(reference),
        )

    def _draft(
        self, wanted: str, header: ModelHeader, fits: Fit, *, n_ctx: int, family: str
    ) -> tuple[DraftModel | None, int, str]:
        """Return the draft model for a model, with the bytes that it takes, or why the one that is named is not used.

        It is where all of the model is, on the processor or on the GPU: elsewhere it would be too slow. Of several, the
        smallest is chosen.
        """
        is_chosen, placed = wanted == "auto", list[tuple[LocalModel, Fit]]()
        has_room = fits.is_roomy and not self.resources.peers
        if is_chosen and not has_room:  # then the models on this machine need not be looked at
            return None, 0, ""
        try:
            models = self.draft_models(wanted)
        except QwenchatError as error:
            return None, 0, error.message
        on_gpu = fits.gpu_layers == header.layers
        room = fit.beside(header, fits, self.resources)
        for model in models if has_room else ():
            small = model.header
            if small and not (is_chosen and not _suits(model, small, header, family)):
                one = fit.assess(small, room, n_ctx, "f16", most_layers=None if on_gpu else 0)
                if one.verdict is Verdict.COMFORTABLE and one.gpu_layers == (small.layers if on_gpu else 0):
                    placed.append((model, one))
        if not placed:
            return None, 0, "" if is_chosen else _("There is not enough memory for both models.")
        model, one = min(placed, key=lambda each: each[1].memory.weights)
        layers = one.gpu_layers + 1 if on_gpu else 0
        return DraftModel(path=os.fsencode(model.path), name=str(model.name), gpu_layers=layers), one.memory.total, ""

    def _split(self, fits: Fit) -> tuple[DeviceShare, ...] | None:
        """Return the layers of each device; None where no peer is connected, so that llama.cpp may decide.

        Peers come first: so the output matrix is on this machine's GPU, if it has one, and no token's logits travel.
        """
        if not self.resources.peers:
            return None
        far = [device for device in self.devices if device.peer]
        near = [device for device in self.devices if not device.peer]
        near = [device for device in near if not device.shares_ram] or near
        free = sum(device.memory_free for device in near)
        shares = [DeviceShare(device.name, layers) for device, layers in zip(far, fits.peer_layers, strict=False)]
        shares += [DeviceShare(device.name, fits.gpu_layers * device.memory_free / free) for device in near if free]
        return tuple(share for share in shares if share.layers)

    def _peers_in(self, fits: Fit) -> tuple[str, ...]:
        """Return the peers that get layers."""
        used = zip(self.resources.peers, fits.peer_layers, strict=False)  # no layers at all where none is needed
        return tuple(dict.fromkeys(peer.endpoint for peer, layers in used if layers))

    def _fit(self, header: ModelHeader, asked: int, native: int, kv_type: str, layers: int) -> Fit:
        """Return the fit with the context window asked for, else with the largest comfortable one up to the native.

        At most `layers` layers are planned on the GPU and peers, -1 for as many as fit.
        """
        here = self.resources if layers else structs.replace(self.resources.alone, gpu_available=0, gpu_of_ram=0)
        most = layers if layers > 0 else None
        if not asked:
            return fit.plan(header, here, min(native, NATIVE_CONTEXT), kv_type, most_layers=most)
        kinds = list(KV_BYTES) if kv_type == "auto" else [kv_type]
        places = [here] if most else [here.alone, here]
        fits = [fit.assess(header, place, asked, kind, most_layers=most) for place in places for kind in kinds]
        return min(fits, key=lambda one: one.verdict.rank)


def _suits(model: LocalModel, small: ModelHeader, header: ModelHeader, family: str) -> bool:
    """Return whether a model can be chosen to guess for another one, of a family of the catalogue or of none."""
    return (
        model.path != header.path
        and not model.only_completes
        and (model.published.model.family if model.published else "") == family
        and small.architecture.removesuffix("moe") == header.architecture.removesuffix("moe")
        and small.tokenizer == header.tokenizer
        and abs(small.vocab_size - header.vocab_size) <= _MOST_PADDING
        and _DRAFT_SHARE * small.active_bytes <= header.active_bytes
    )


def _beyond(name: str, asked: int, limit: int) -> CannotLoad:
    return CannotLoad(
        _("The context window of {name} is at most {limit:,} tokens; {asked:,} were requested.").format(
            name=name, limit=limit, asked=asked
        ),
        recoveries=(Recovery(RecoveryKind.SMALLER_CONTEXT, limit), OTHER_MODEL),
    )


def _offline(name: str, peers: Sequence[str]) -> RemoteUnreachable:
    return RemoteUnreachable(
        _("{name} needs the memory of {peers}, and qwenchat is set to stay offline.").format(
            name=name, peers=enumerated(peers)
        ),
        _("Unset hub.offline."),
        recoveries=(WITHOUT_PEERS, OTHER_MODEL),
    )


def _too_large(header: ModelHeader, name: str, fits: Fit) -> CannotLoad:
    message = _("{name} needs {needed} of memory, but only {free} is free.").format(
        name=name, needed=human_size(fits.memory.total), free=human_size(fits.available)
    )
    largest = fit.largest_context(header, fits.available, KV_BYTES["q8_0"], fits.n_ctx)
    less = with_less(fits.n_ctx)
    if largest:
        less = (Recovery(RecoveryKind.SMALLER_CONTEXT, largest), Recovery(RecoveryKind.SMALLER_KV_CACHE))
    return CannotLoad(message, recoveries=(*less, OTHER_MODEL, Recovery(RecoveryKind.LOAD_ANYWAY)))
