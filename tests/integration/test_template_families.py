"""Chat templates as the makers of models write them: each construct is accepted, and rendered as they mean it."""

from datetime import datetime
from pathlib import Path

import pytest

from qwenchat.chat.prompt import Turn
from qwenchat.engines.chat_template import ChatTemplate, Rendered
from qwenchat.engines.prompt_format import ChatMLFormat, TemplateFormat, prompt_format_for
from qwenchat.models import catalogue
from qwenchat.models.catalogue import Purpose

CHAT = [Turn("user", "Q"), Turn("assistant", "A"), Turn("user", "R")]
WITH_SYSTEM = [Turn("system", "S"), *CHAT]


def clock() -> datetime:
    return datetime(2026, 3, 7, 23, 59)


def _template(name: str) -> str:
    """Return a template that is short, and has the constructs of the family's real one."""
    return (Path(__file__).parents[1] / "data" / "chat_templates" / f"{name}.jinja").read_text("utf-8")


COHERE = _template("cohere")
GPT_OSS = _template("gpt-oss")
MISTRAL_7B = _template("mistral-7b")
MISTRAL_V3 = _template("mistral-v3")
MISTRAL_SMALL = _template("mistral-small")
REKA = _template("reka")
KIMI = _template("kimi")
LLAMA_3 = _template("llama-3")
PHI = _template("phi")
GEMMA = _template("gemma")
R1 = _template("r1-distill")
QWEN_2 = _template("qwen2")
QWEN_2_5 = _template("qwen2.5")
QWQ = _template("qwq")
DATED = QWEN_2.replace("helpful assistant.", "helpful assistant of ' + strftime_now('%Y') + '.")


def text(rendered: Rendered) -> str:
    return "".join(getattr(part, "text", "") for part in rendered.parts)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (COHERE, "<s><|SYSTEM|>S<|END|><|USER|>Q<|END|><|CHATBOT|>A<|END|><|USER|>R<|END|><|CHATBOT|>"),
        (
            GPT_OSS,
            '<|start|>system<|message|>Today: 2026-03-07 {"语": [null, true]}<|end|>'
            "<|start|>developer<|message|>S<|end|>"
            "<|start|>user<|message|>Q<|end|><|start|>assistant<|message|>A<|end|><|start|>user<|message|>R<|end|>"
            "<|start|>assistant",
        ),
        (MISTRAL_7B, "<s>[INST] S\n\nQ [/INST]A</s>[INST] R [/INST]"),
        (MISTRAL_V3, "<s>[INST]Q[/INST]A</s>[INST]S\n\nR[/INST]"),
        (MISTRAL_SMALL, "<s>[SYSTEM_PROMPT]S[/SYSTEM_PROMPT][INST]Q[/INST]A</s>[INST]R[/INST]"),
        (REKA, "human: S <sep> human: Q <sep> assistant: A <sep> human: R <sep> assistant:"),
        (
            KIMI,
            "<|im_system|>system<|im_middle|>S<|im_end|><|im_user|>user<|im_middle|>Q<|im_end|>"
            "<|im_assistant|>assistant<|im_middle|>A<|im_end|><|im_user|>user<|im_middle|>R<|im_end|>"
            "<|im_assistant|>assistant<|im_middle|>",
        ),
        (
            LLAMA_3,
            "<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 07 Mar 2026\n\nS<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nR<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (PHI, "<|system|>S<|end|><|user|>Q<|end|><|assistant|>A<|end|><|user|>R<|end|><|assistant|>"),
        (
            GEMMA,
            "<s><start_of_turn>user\nS\n\nQ<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n"
            "<start_of_turn>user\nR<end_of_turn>\n<start_of_turn>model\n",
        ),
        (R1, "<s>S<｜User｜>Q<｜Assistant｜>A<｜end▁of▁sentence｜><｜User｜>R<｜Assistant｜><think>\n"),
    ],
    ids=["cohere", "gpt-oss", "mistral 7b", "mistral v3", "small", "reka", "kimi", "llama", "phi", "gemma", "r1"],
)
async def test_the_templates_of_other_families(template: str, expected: str) -> None:
    made = TemplateFormat(ChatTemplate(source=template, bos="<s>", eos="</s>", clock=clock))
    assert text(await made.prompt(WITH_SYSTEM, continuing=False)) == expected
    continued = await made.prompt(WITH_SYSTEM[:3], continuing=True)
    assert text(continued).endswith("A")


@pytest.mark.parametrize(
    ("template", "system", "opening"),
    [
        (QWEN_2, "You are a helpful assistant.", ""),
        (QWEN_2_5, "You are Qwen.", ""),
        (QWQ, "", "<think>\n"),
        (DATED, f"You are a helpful assistant of {datetime.now().year}.", ""),
        (R1, "", "<think>\n"),
    ],
    ids=["qwen2", "qwen2.5", "qwq", "dated", "r1"],
)
async def test_a_template_s_own_system_prompt_is_used_where_the_user_gave_none(
    template: str, system: str, opening: str
) -> None:
    made = await prompt_format_for(ChatTemplate(source=template, bos="<s>", eos=""), chatml=True)
    assert isinstance(made, TemplateFormat if template in (DATED, R1) else ChatMLFormat)
    assert made.opening == opening
    for turns, shown in ((CHAT, system), (WITH_SYSTEM, "S")):
        prompt = text(await made.prompt(turns, continuing=False))
        if template == R1:
            continued = shown + "<｜User｜>Q<｜Assistant｜>A<｜end▁of▁sentence｜><｜User｜>R<｜Assistant｜>"
            assert prompt == f"<s>{continued}{opening}"
        else:
            before = f"<|im_start|>system\n{shown}<|im_end|>\n" if shown else ""
            chat = "".join(f"<|im_start|>{turn.role}\n{turn.text}<|im_end|>\n" for turn in CHAT)
            assert prompt == f"{before}{chat}<|im_start|>assistant\n{opening}"


@pytest.mark.parametrize(
    ("family", "template"),
    [("qwen2", QWEN_2), ("qwen2.5", QWEN_2_5), ("coder", QWEN_2_5), ("math", QWEN_2_5), ("qwq", QWQ), ("r1", R1)],
)
async def test_the_catalogue_says_of_a_family_what_the_chat_does_with_it(family: str, template: str) -> None:
    made = await prompt_format_for(ChatTemplate(source=template, bos="<s>", eos=""), chatml=True)
    for model in catalogue.load().of(family):
        assert (model.purpose is Purpose.REASONING) == bool(made.opening)
        assert (model.calls_tools != "no") == (made.calls is not None)


async def test_json_is_written_as_templates_ask_for_it() -> None:
    source = (
        "{{ messages[0].content }}{% set x = {'b': '<é>', 'a': [1]} %}{{ x | tojson }}"
        "{{ x | tojson(ensure_ascii=true) }}{{ x | tojson(indent=1) }}"
        "{{ x | tojson(separators=(',', ':'), sort_keys=true) }}"
    )
    (rendered,) = await ChatTemplate(source=source, bos="", eos="").render([Turn("user", "Q")])
    assert isinstance(rendered, Rendered)
    assert text(rendered) == (
        'Q{"b": "<é>", "a": [1]}{"b": "<\\u00e9>", "a": [1]}{\n "b": "<é>",\n "a": [\n  1\n ]\n}{"a":[1],"b":"<é>"}'
    )
