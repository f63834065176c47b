"""`make pages`: writes the generated parts of the pages, and the schemas. A test fails where one is out of date.

A part is between `<!-- made: NAME -->` and `<!-- end -->`; everything around it is written by hand. A schema is a whole
file. Nothing is measured, and no network connection is opened.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from pathlib import Path
from typing import Any

import msgspec

from qwenchat import config
from qwenchat.i18n import _, language, use_language
from qwenchat.models import catalogue, fit
from qwenchat.sessions import exporters
from qwenchat.text.safe import human_size
from qwenchat.tui import slash_commands, themes
from qwenchat.tui.actions import Action, actions, key_names, places

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SCHEMAS = DOCS / "schemas"
_PART = re.compile(r"(<!-- made: ([a-z]+) -->\n).*?(\n<!-- end -->)", re.DOTALL)
_MANY = 10**8
"""A limit above this exists for technical reasons and is not shown."""
_WORDS = {  # English: Chinese; words used in these tables only
    "key": "按键",
    "**{label}.** {help}": "**{label}**：{help}",
    "what it does": "作用",
    "name in `[keys]`": "在 `[keys]` 中的名称",
    "only in the palette": "只在命令面板中",
    "command": "命令",
    "also": "别名",
    "setting and variable": "设置项与环境变量",
    "values": "取值",
    "default": "默认值",
    "meaning": "含义",
    "text": "文本",
    "number": "数",
    "whole number": "整数",
    "list of folders": "文件夹列表",
    "{kind}, {bounds}": "{kind}，{bounds}",
    "{low} to {high}": "{low} 到 {high}",
    "{low} or more": "不小于 {low}",
    "above {low}": "大于 {low}",
    "none": "无",
    "the model's": "模型的推荐值",
    "name": "名称",
    "title": "显示名",
    "background": "底色",
    "download of q4_k_m": "q4_k_m 下载大小",
    "context, with YaRN": "上下文（用 YaRN）",
    "good for": "适合",
    "licence": "许可协议",
    "window": "窗口",
    "{count:,} tokens": "{count:,} 词元",
}


def pages() -> list[Path]:
    """Return every page, those in the root of the repository included."""
    return [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]


def language_of(page: Path) -> str:
    """Return the language that a page is written in."""
    return "zh_CN" if page.parent.name == "zh" or page.name.endswith(".zh-CN.md") else "en"


def up_to_date(page: Path) -> str:
    """Return a page with its generated parts brought up to date."""
    context = copy_context()
    context.run(use_language, language_of(page))

    def part(found: re.Match[str]) -> str:
        return f"{found[1]}\n{context.run(PARTS[found[2]])}\n{found[3]}"

    return _PART.sub(part, page.read_text("utf-8"))


def schemas() -> dict[Path, str]:
    """Return the text of each published schema by its file."""
    packed = Path(exporters.__file__).with_name("json.schema.json")
    settings = {"title": "Settings of qwenchat", **msgspec.json.schema(config.Settings)}
    return {
        SCHEMAS / "conversations.json": packed.read_text("utf-8"),
        SCHEMAS / "settings.json": json.dumps(settings, indent=2, ensure_ascii=False) + "\n",
    }


def kbd(keys: str) -> str:
    """Return keys separated by commas in HTML, each in a `kbd` element."""
    return " ".join(f"<kbd>{name}</kbd>" for name in key_names(keys))


def _keys() -> str:
    parts = []
    for where, heading in places().items():
        rows = [_key_row(action) for action in actions() if action.where is where]
        parts.append(f"## {heading}\n\n" + _table(("key", "what it does", "name in `[keys]`"), rows))
    return "\n\n".join(parts)


def _key_row(action: Action) -> list[str]:
    return [
        kbd(action.keys) or _word("only in the palette"),
        _word("**{label}.** {help}").format(label=action.label, help=action.help),
        f"`{action.id}`",
    ]


def _commands() -> str:
    rows = []
    for name, words in slash_commands.commands().items():
        also = " ".join(f"`/{alias}`" for alias, meant in slash_commands.ALIASES.items() if meant == name)
        rows.append([f"`/{name}`", words, also])
    return _table(("command", "what it does", "also"), rows)


def _settings() -> str:
    """Return one table per section, from the schema that settings are checked against."""
    schema = msgspec.json.schema(config.Settings)["$defs"]
    parts = []
    for section in dict.fromkeys(key.rpartition(".")[0] for key in config.names()):
        keys = [key for key in config.names() if key.rpartition(".")[0] == section]
        struct = schema["Settings"]["properties"][section]["$ref"].rpartition("/")[2] if section else "Settings"
        rows = [_setting_row(key, schema[struct]["properties"][key.rpartition(".")[2]]) for key in keys]
        heading = f"## [{section}]\n\n{_(config.section(keys[0]))}\n\n" if section else ""
        parts.append(heading + _table(("setting and variable", "values", "default", "meaning"), rows))
    return "\n\n".join(parts)


def _setting_row(key: str, schema: dict[str, Any]) -> list[str]:
    default = config.get(config.Settings(), key)
    named = f"`{key}`<br>`{config.variable(key)}`"
    return [named, _values(key, schema), _default(default), _(config.description(key))]


def _values(key: str, schema: dict[str, Any]) -> str:
    """Return the possible values of a setting."""
    if choices := config.choices(key):
        return " ".join(f"`{choice}`" for choice in choices if choice)
    found = schema.get("anyOf", [schema])[0]
    kind = _word(
        {"string": "text", "number": "number", "integer": "whole number", "array": "list of folders"}[found["type"]]
    )
    if "exclusiveMinimum" in found:
        bounds = _word("above {low}").format(low=found["exclusiveMinimum"])
        return _word("{kind}, {bounds}").format(kind=kind, bounds=bounds)
    if "minimum" not in found:
        return kind
    low, high = found["minimum"], found.get("maximum")
    bounds = _word("{low} or more") if high is None or high > _MANY else _word("{low} to {high}")
    return _word("{kind}, {bounds}").format(kind=kind, bounds=bounds.format(low=low, high=f"{high or 0:,}"))


def _default(value: object) -> str:
    if value is None:
        return _word("the model's")
    if value in ("", ()):
        return _word("none")
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _themes() -> str:
    found = themes.load_all(Path("/nowhere"))
    dark = {True: _("dark"), False: _("light")}
    rows = [[f"`{name}`", _(title), dark[found.by_name[name].dark]] for name, title in found.titles.items()]
    return _table(("name", "title", "background"), rows)


def _models() -> str:
    return _models_of(catalogue.load().of(catalogue.QWEN2))


def _relatives() -> str:
    """Return a table for each family but Qwen2."""
    known, parts = catalogue.load(), []
    for family in known.relatives:
        parts.append(f"`{family.name}` · **{family.title}** · {family.about_here()}")
        parts.append(_models_of(known.of(family.name)))
    return "\n\n".join(parts)


def _models_of(models: Sequence[catalogue.CatalogueModel]) -> str:
    rows = []
    for model in models:
        window = f"{model.context:,}" + (f" ({model.yarn_context:,})" if model.yarn_context else "")
        rows.append([f"`{model.name}`", _download(model), window, model.advice_here(), model.licence])
    return _table(("name", "download of q4_k_m", "context, with YaRN", "good for", "licence"), rows)


def _download(model: catalogue.CatalogueModel) -> str:
    """Return the size of the usual quantisation; of the only one, with its label, where that is another."""
    usual = model.quantisation("q4_k_m")
    quant = usual or model.quantisations[0]
    return human_size(quant.size) + ("" if usual else f" ({quant.label})")


def _memory() -> str:
    windows, rows = (4096, 32_768, 65_536, 131_072), []
    for model in catalogue.load().of(catalogue.QWEN2):
        quant = model.quantisation("q4_k_m")
        assert quant, model.name
        most = max(model.context, model.yarn_context)
        needs = [_needed(catalogue.PublishedModel(model, quant), n_ctx) if n_ctx <= most else "–" for n_ctx in windows]
        rows.append([f"`{model.reference(quant)}`", *needs])
    return _table(("window", *(_word("{count:,} tokens").format(count=n_ctx) for n_ctx in windows)), rows)


def _needed(model: fit.Loadable, n_ctx: int) -> str:
    return " / ".join(human_size(fit.memory_needed(model, n_ctx, fit.KV_BYTES[kind]).total) for kind in fit.KV_BYTES)


def _without() -> str:
    """Return the commands that install everything except llama-cpp-python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = [re.split(r"[<>=]", dependency)[0] for dependency in project["dependencies"]]
    rest = " ".join(name for name in needed if name != "llama-cpp-python")
    return f"```sh\npip install --no-deps .\npip install {rest}\n```"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines: Iterator[Sequence[str]] = iter(([_word(heading) for heading in headings], ["---"] * len(headings), *rows))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _word(english: str) -> str:
    """Return a word of these tables in the language of the page."""
    return _WORDS.get(english, english) if language() == "zh_CN" else english


PARTS: dict[str, Callable[[], str]] = {
    "keys": _keys,
    "commands": _commands,
    "settings": _settings,
    "themes": _themes,
    "models": _models,
    "relatives": _relatives,
    "memory": _memory,
    "without": _without,
}


def main() -> None:
    """Write all generated parts and schemas."""
    for page in pages():
        page.write_text(up_to_date(page), "utf-8")
    for file, text in schemas().items():
        file.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
