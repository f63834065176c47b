"""All models that the user can choose: those on this machine first, then Qwen2 and its relatives, best first.

Values only: no network, no widget. `model_choices` reads folders and headers and may measure the memory, so it is
called from a thread.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from qwenchat.errors import NotFound
from qwenchat.i18n import _, enumerated, labelled, sentences
from qwenchat.models import fit
from qwenchat.models.catalogue import (
    QWEN2,
    Catalogue,
    CatalogueModel,
    Family,
    PublishedModel,
    Purpose,
    ToolCalls,
)
from qwenchat.models.gguf import identity
from qwenchat.models.layouts import FolderProblem
from qwenchat.models.library import LocalModel, owner, tools_words
from qwenchat.models.measured import ModelSpeed
from qwenchat.models.recommendation import (
    Assessment,
    advice,
    assess_catalogue,
    assess_file,
    local_files,
    reason,
    recommended,
    verdict_words,
)
from qwenchat.models.reference import GuideReference, path_reference
from qwenchat.runtime.program import Program
from qwenchat.text.pinyin import initials
from qwenchat.text.safe import clean_line, human_size

_NO_MARK = "\N{NO-BREAK SPACE}"
"""As wide as a mark; plain spaces at the start of a line are not drawn."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """One model, on this machine or to download."""

    reference: str
    local: LocalModel | None = None
    """The file, where it is on this machine."""
    published: PublishedModel | None = None
    """The entry of the catalogue, if it has one."""
    assessment: Assessment | None = None
    """How well it fits; None for a file that can't be used."""
    is_best_of_size: bool = False
    """Whether it is the best quantisation of its size here."""
    about_family: str = ""
    """What its family is and how to see all of it, where this model stands for the family in the list."""
    is_recommended: bool = False

    @property
    def is_relative(self) -> bool:
        """Whether it is to download and of another family than Qwen2."""
        return self.local is None and self.published is not None and self.published.model.family != QWEN2

    @property
    def problem(self) -> str:
        """Why the file on this machine can't be used; empty if it can or there is none."""
        return self.local.problem if self.local else ""

    @property
    def tools(self) -> ToolCalls | None:
        """How well it calls tools; None where that is not known."""
        if self.local:
            return self.local.tools
        return self.published.model.calls_tools if self.published else None

    @property
    def must_accept(self) -> bool:
        """Whether the licence has to be accepted before the download."""
        return self.local is None and self.published is not None and self.published.model.must_accept

    @property
    def name(self) -> str:
        """The name to show."""
        if self.local is None or self.reference != path_reference(self.local.path):
            return clean_line(self.reference)
        return str(self.local.name) if self.local.header else clean_line(self.local.path.name)

    @property
    def size(self) -> int:
        """Bytes of its files, 0 where that is not known."""
        if self.local and self.local.header:
            return self.local.header.file_size
        return self.published.file_size if self.published else 0

    def row(self) -> list[str]:
        """Return the columns of a list, the most important first."""
        mark = "★" if self.is_recommended else "✗" if self.problem else _NO_MARK
        size = human_size(self.size) if self.size else ""
        owner_or_size = owner(self.local) if self.local else size
        if self.assessment is None:
            verdict, tools = (_("can't be used"), "") if self.problem else ("", tools_words(self.tools))
            return [f"{mark} {self.name}", verdict, "", "", tools, owner_or_size]
        fit, lacks_disk = self.assessment.fit, self.assessment.disk_missing
        verdict = _("disk too small") if lacks_disk else verdict_words(fit.verdict)
        memory, speed = human_size(fit.memory.total), _speed(self.assessment)
        return [f"{mark} {self.name}", verdict, memory, speed, tools_words(self.tools), owner_or_size]

    def details(self) -> list[str]:
        """Return what else is known of it, line by line."""
        lines = [self._facts(), self._advice(), self.about_family or self._other_quantisations()]
        if self.problem:
            lines.append(self.problem)
        elif self.assessment:
            if self.is_recommended:
                lines.append("★ " + advice(self.assessment))
            lines.append(_sentence(reason(self.assessment)))
        if not self.problem:
            lines.append(sentences(self._nature(), _tools_sentence(self.tools) if self.tools else ""))
        if self.assessment and self.assessment.disk_missing:
            missing = human_size(self.assessment.disk_missing)
            lines.append(_("The download needs {size} more disk space.").format(size=missing))
        if self.local:
            lines.append(labelled(owner(self.local), self.local.path))
        elif self.published and not self.published.model.is_from_its_makers:
            lines.append(_publisher(self.published.model))
        return [clean_line(line, 600) for line in lines if line]

    def answers_to(self, name: str) -> bool:
        """Return whether a reference or a path is this model's."""
        return name == self.reference or (self.local is not None and name == str(self.local.path))

    def matches(self, words: Sequence[str]) -> bool:
        """Return whether all words, in lower case, are in what is shown of it, its pinyin initials or its file name."""
        file_name = self.local.file.name if self.local else ""
        shown = " ".join([*self.row(), self._facts(), file_name]).casefold()
        read = initials(shown)
        return all(word in shown or word in read for word in words)

    def _facts(self) -> str:
        header = self.local.header if self.local else None
        model = self.published.model if self.published else None
        title = model.title if model else header.name if header else ""
        quant = self.published.quant.label if self.published else header.quantisation if header else ""
        sizes = self.local.context if self.local else None
        context = sizes.native if sizes else model.context if model else 0
        facts = [" ".join(part for part in (title, quant) if part), human_size(self.size) if self.size else ""]
        facts.append(_("{count:,} tokens of context").format(count=context) if context else "")
        facts.append(model.licence if model else "")
        return " · ".join(fact for fact in facts if fact)

    def _other_quantisations(self) -> str:
        if self.local is None and self.published and self.is_best_of_size:
            return _("Type {name} to see all its quantisations.").format(name=self.published.model.name)
        return ""

    def _nature(self) -> str:
        if self.local.only_completes if self.local else self._purpose is Purpose.COMPLETION:
            return _("It continues text instead of answering.")
        if self._purpose is Purpose.REASONING:
            return _("It thinks before it answers, which takes time and tokens.")
        return ""

    @property
    def _purpose(self) -> Purpose | None:
        return self.published.model.purpose if self.published else None

    def _advice(self) -> str:
        if self.reference == "guide":
            return _("A tiny built-in model, to try qwenchat without a download.")
        return self.published.model.advice_here() if self.published else ""


def headings(title: str, last: str) -> list[str]:
    """Return the headings of the columns of `ModelChoice.row`: that of the group of models, and of the last column."""
    return [title, _("fits"), _("memory"), _("speed"), _("tools"), last]


@dataclass(frozen=True, slots=True)
class ModelChoices:
    """What this machine has, and the models that the user can choose from."""

    resources: fit.Resources
    choices: tuple[ModelChoice, ...]
    problems: tuple[FolderProblem, ...] = ()
    """The folders that can't be searched for models."""

    @property
    def recommended(self) -> ModelChoice | None:
        """The model that suits this machine best."""
        return next((choice for choice in self.choices if choice.is_recommended), None)

    @property
    def here(self) -> list[ModelChoice]:
        """The models on this machine."""
        return [choice for choice in self.choices if choice.local]

    @property
    def catalogue(self) -> list[ModelChoice]:
        """The models to download."""
        return [choice for choice in self.choices if not choice.local]


def model_choices(program: Program) -> ModelChoices:
    """Examine the machine, its folders and the catalogue. Blocks for up to a second."""
    resources = program.usable(measure=True)
    (models, problems), speeds = program.library.survey(), program.machine.measured.speeds()
    kv_type = program.settings.model.kv_type
    local = local_files([model for model in models if not model.problem], speeds)
    catalogue = program.catalogue
    assessments = {
        family.name: assess_catalogue(catalogue, resources, local, family=family.name, kv_type=kv_type)
        for family in catalogue.families
    }
    best = recommended(assessments[QWEN2])
    by_reference = {assessment.reference: assessment for rows in assessments.values() for assessment in rows}
    choices = []
    for model in sorted(models, key=lambda model: bool(model.problem)):
        assessment = None
        if not model.problem:
            assessment = by_reference.get(model.published.reference) if model.published else None
            speed = speeds.get(identity(model.path)) if speeds and not assessment else None
            assessment = assessment or _assess(model, resources, kv_type, speed)
        is_best = assessment is not None and assessment is best
        choices.append(
            ModelChoice(model.reference, model, model.published, assessment=assessment, is_recommended=is_best)
        )
    usable = {choice.reference for choice in choices if not choice.problem}
    downloads = _downloadable(catalogue, assessments, best, usable)
    return ModelChoices(resources, (*choices, *_guide(program), *downloads), problems=tuple(problems))


def _downloadable(
    catalogue: Catalogue,
    assessments: Mapping[str, Sequence[Assessment]],
    best: Assessment | None,
    usable: Container[str],
) -> Iterator[ModelChoice]:
    """Yield what is not usable here, family by family, in the order of the assessments: the best of each size first.

    The first of each family but Qwen2 stands for the family.
    """
    for family in catalogue.families:
        sizes, about = set[str](), "" if family.name == QWEN2 else _about_family(catalogue, family)
        for row in assessments[family.name]:
            if row.published is None:
                continue
            size = row.published.model.size
            if row.reference not in usable:
                yield ModelChoice(
                    row.reference,
                    published=row.published,
                    assessment=row,
                    is_best_of_size=size not in sizes,
                    about_family=about,
                    is_recommended=row is best,
                )
                about = ""
            sizes.add(size)


def _about_family(catalogue: Catalogue, family: Family) -> str:
    sizes = enumerated(model.size for model in catalogue.of(family.name))
    words = _("{title}: {about} Sizes: {sizes}. Type {name} to see all of them.")
    return words.format(title=family.title, about=family.about_here(), sizes=sizes, name=family.name)


def _publisher(model: CatalogueModel) -> str:
    words = _("The makers of the model publish no such file; this one is from {owner}.")
    return words.format(owner=model.repo.partition("/")[0])


def _assess(model: LocalModel, resources: fit.Resources, kv_type: str, speed: ModelSpeed | None) -> Assessment | None:
    """Return how well a model that is not in the catalogue fits."""
    header = model.header
    if header is None:
        return None
    window = min(fit.NATIVE_CONTEXT, model.context.native if model.context else fit.NATIVE_CONTEXT)
    return assess_file(model, header, resources, window, kv_type=kv_type, speed=speed)


def _guide(program: Program) -> list[ModelChoice]:
    try:
        return [ModelChoice("guide", program.library.model(GuideReference()))]
    except NotFound:
        return []


def _speed(row: Assessment) -> str:
    if row.decode_tps is None:
        return ""
    return _("{speed} tokens/s").format(speed=f"{'' if row.is_measured else '~'}{row.decode_tps:.1f}")


def _tools_sentence(tools: ToolCalls) -> str:
    return {
        "yes": _("It calls tools well."),
        "weak": _("It calls tools unreliably; models from 7B on call them well."),
        "no": _("It can't call tools."),
    }[tools]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
