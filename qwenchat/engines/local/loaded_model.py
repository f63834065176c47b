"""A model in a worker: how it was decided to load it, and what is known of it since. Nothing is loaded here."""

import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from msgspec import Struct, field

from qwenchat.chat.ports import ModelInfo
from qwenchat.chat.sampling import UNSET, Sampling
from qwenchat.engines.chat_template import ChatTemplate
from qwenchat.engines.local.attached import AttachedWorker, SharedModel
from qwenchat.engines.local.kv_slot import KVSlot
from qwenchat.engines.local.link import WorkerLink
from qwenchat.engines.local.prefill_progress import PrefillSpeed
from qwenchat.engines.local.protocol import Device, Hello, LoadPlan, Ready
from qwenchat.engines.prompt_format import PromptFormat, TemplateFacts, format_with
from qwenchat.i18n import _, sentences


class PlannedModel(Struct, frozen=True, kw_only=True):
    """A decision how to load a model, made once the accelerators are known."""

    plan: LoadPlan
    reference: str
    """The model reference."""
    name: str
    """The model's name for users."""
    defaults: Sampling
    advised: Sampling = UNSET
    """Of the defaults, what the model's makers advise."""
    warnings: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    """All files of the model."""
    memory: int = 0
    """Bytes that it is expected to take; 0 if nothing was predicted."""
    reads_history: bool = True
    """Whether it was trained on conversations."""
    peers: tuple[str, ...] = ()
    """Host and port of peers to connect to, because this machine has no room for it; then it is planned again."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, or the one to load where nothing more is known."""
        return self.files or (Path(os.fsdecode(self.plan.path)),)

    def stamps(self) -> "Stamps":
        """Return what changes with the model's files: inode, size and time of each; None for one that is gone."""
        found: list[tuple[int, int, int] | None] = []
        for file in self.paths:
            try:
                status = file.stat()
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
            except OSError:
                found.append(None)
        return tuple(found)


Stamps = tuple[tuple[int, int, int] | None, ...]
Planner = Callable[[Sequence[Device]], PlannedModel]
"""Decides context window, layers and memory; raises CannotLoad for what does not fit."""
Attach = Callable[[], Awaitable[tuple[AttachedWorker, PlannedModel] | None]]
"""Finds another program that shares the model as it is wanted; returns its worker and how the model is loaded there."""


class LoadedModel(Struct, frozen=True, kw_only=True):
    """A worker with a model in it."""

    worker: WorkerLink
    planned: PlannedModel
    hello: Hello
    ready: Ready
    template: TemplateFacts
    format: PromptFormat
    info: ModelInfo
    slot: KVSlot
    stamps: Stamps
    speed: PrefillSpeed = field(default_factory=PrefillSpeed)

    @classmethod
    def of(
        cls,
        worker: WorkerLink,
        planned: PlannedModel,
        *,
        hello: Hello,
        ready: Ready,
        template: TemplateFacts,
        slot: KVSlot,
        stamps: Stamps,
    ) -> "LoadedModel":
        """Return the model, given what its worker said and what its template writes."""
        plan = planned.plan
        source = ChatTemplate(source=ready.chat_template, bos=ready.bos, eos=ready.eos)
        prompt_format = format_with(source, template)
        info = ModelInfo(
            reference=planned.reference,
            name=planned.name,
            file=plan.spread_identity,
            host=",".join(plan.peers),
            n_ctx=ready.n_ctx,
            yarn_factor=plan.yarn_factor,
            kv_type=plan.kv_type,
            defaults=planned.defaults,
            load_s=0.0 if worker.is_shared else ready.load_s,
            warnings=(*planned.warnings, *_of_draft(plan, ready)),
            is_shared=worker.is_shared,
            opens_reasoning=bool(prompt_format.opening),
            reads_history=planned.reads_history,
        )
        return cls(
            worker=worker,
            planned=planned,
            hello=hello,
            ready=ready,
            template=template,
            format=prompt_format,
            info=info,
            slot=slot,
            stamps=stamps,
        )

    @property
    def shared(self) -> SharedModel:
        """What other programs have to know to use it."""
        return SharedModel(
            plan=self.planned.plan,
            reference=self.planned.reference,
            name=self.planned.name,
            stamps=self.stamps,
            files=tuple(map(os.fsencode, self.planned.paths)),
            hello=self.hello,
            ready=self.ready,
            template=self.template,
            advised=self.planned.advised,
        )

    def is_outdated(self) -> bool:
        """Return whether a file of the model was changed or replaced since it was loaded. It may block."""
        return any(now not in (None, before) for now, before in zip(self.planned.stamps(), self.stamps, strict=True))


def _of_draft(plan: LoadPlan, ready: Ready) -> tuple[str, ...]:
    """Return what the user should know about the draft model: why it is not used."""
    if not plan.draft or not ready.draft_fault:
        return ()
    reason = _("{name} can't be loaded.") if ready.draft_fault == "load" else _("{name} has another vocabulary.")
    return (sentences(_("No draft model is used."), reason.format(name=plan.draft.name)),)
