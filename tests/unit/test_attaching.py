"""Whether a model that another program has loaded is the one that is wanted, and by whom that is decided."""

from typing import Any

import pytest

from qwenchat.config import ServerSettings, Settings
from qwenchat.engines.local.protocol import DraftModel, LoadPlan, Lora
from qwenchat.runtime.attaching import may_attach
from qwenchat.runtime.load_options import LoadOptions
from qwenchat.runtime.program import Program

PLAN: dict[str, Any] = {
    "path": b"/m.gguf",
    "identity": "m",
    "n_ctx": 4096,
    "threads": 4,
    "gpu_layers": 0,
    "kv_type": "f16",
}
LORA = Lora(b"/a.gguf", 0.5)
DRAFT = DraftModel(path=b"/small.gguf", name="0.5b")


@pytest.mark.parametrize(
    ("options", "plan", "expected"),
    [
        ({}, {}, True),
        ({"ctx": 4096, "threads": 4, "gpu_layers": 0, "kv_type": "f16"}, {}, True),
        ({"ctx": 2048}, {}, False),
        ({"threads": 1}, {}, False),
        ({"gpu_layers": 8}, {}, False),
        ({"kv_type": "q8_0"}, {}, False),
        ({"loras": (LORA,)}, {}, False),
        ({}, {"loras": (LORA,)}, False),
        ({"loras": (LORA,)}, {"loras": (LORA,)}, True),
        ({"loras": (Lora(b"/a.gguf", 1.0),)}, {"loras": (LORA,)}, False),
        ({}, {"peers": ("10.0.0.2:50052",)}, True),
        ({"with_peers": False}, {"peers": ("10.0.0.2:50052",)}, False),
        ({}, {"parallel": 4}, True),
        ({"parallel": 2}, {}, False),
        ({"scores": True}, {"scores": True}, False),
        ({"force": True}, {}, True),
        ({}, {"draft": DRAFT}, True),
        ({"draft": "auto"}, {"draft": DRAFT}, True),
        ({"draft": "off"}, {}, True),
        ({"draft": "off"}, {"draft": DRAFT}, False),
        ({"draft": "0.5b"}, {"draft": DRAFT}, False),
    ],
)
def test_what_was_asked_for_explicitly_must_agree(
    options: dict[str, Any], plan: dict[str, Any], expected: bool
) -> None:
    assert LoadOptions(**options).agree_with(LoadPlan(**{**PLAN, **plan})) is expected


def test_options_and_settings_may_forbid_it() -> None:
    program = Program({})
    program.__dict__["settings"] = Settings()
    assert may_attach(program, LoadOptions(attach=True))
    assert not may_attach(program, LoadOptions())
    program.__dict__["settings"] = Settings(server=ServerSettings(attach=False))
    assert not may_attach(program, LoadOptions(attach=True))
