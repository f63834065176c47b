"""Accelerators are looked for by a child, once, and the memory of all of them counts."""

import subprocess
import sys
from pathlib import Path

import pytest

from qwenchat.chat.message import Message, Role, Timings, Usage, host_in
from qwenchat.engines.local import devices
from qwenchat.engines.local.devices import PeerSurvey
from qwenchat.engines.local.protocol import Device, Hello
from qwenchat.engines.worker.c_api import bindings
from qwenchat.models.fit import PeerMemory
from qwenchat.runtime import machine
from qwenchat.runtime.program import Program
from tests.fakes.commands import ROOT, environment

GIB = 1 << 30
CARDS = (Device("CUDA0", "card", 10 * GIB, 12 * GIB), Device("CUDA1", "card", 5 * GIB, 6 * GIB))
SHARED = Device("Vulkan1", "integrated", 8 * GIB, 12 * GIB, shares_ram=True)


def test_a_worker_tells_what_this_build_can_use() -> None:
    hello = devices.ask_worker()
    assert hello and hello.binding
    assert hello.offload == bool(bindings().llama_supports_gpu_offload())
    assert hello.offload or not hello.devices


def test_a_broken_installation_has_no_accelerator(tmp_path: Path) -> None:
    (tmp_path / "llama_cpp.py").write_text("")
    code = "from qwenchat.engines.local import devices; print(devices.ask_worker())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(PYTHONPATH=f"{tmp_path}:{ROOT}"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "None\n"


def test_an_installation_without_accelerators_is_asked_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [Hello("1", "", [], offload=False)]
    monkeypatch.setattr(devices, "ask_worker", answers.pop)
    for _start in range(2):
        assert Program.here().machine.devices == ()
    assert answers == []
    monkeypatch.setattr(devices, "llama_cpp_build", lambda: "another")
    with pytest.raises(IndexError):  # it is asked again
        _ = Program.here().machine.devices


def test_one_with_accelerators_is_asked_by_each_process_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [Hello("1", "", list(CARDS), offload=True), Hello("1", "", [], offload=True)]
    monkeypatch.setattr(devices, "ask_worker", answers.pop)
    assert Program.here().machine.resources().gpu_available == 0
    program = Program.here()
    assert [program.machine.resources().gpu_available for _look in range(2)] == [15 * GIB, 15 * GIB]


def test_models_are_not_offered_an_accelerator_that_the_settings_leave_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "ask_worker", lambda: Hello("1", "", list(CARDS), offload=True))
    assert Program.here().usable().gpu_available == 15 * GIB
    monkeypatch.setenv("QWENCHAT_MODEL_GPU_LAYERS", "0")
    program = Program.here()
    assert (program.usable().gpu_available, program.machine.resources().gpu_available) == (0, 15 * GIB)


@pytest.mark.parametrize(
    ("found", "own", "shared"), [((), 0, 0), (CARDS, 15, 0), ((SHARED,), 0, 8), ((SHARED, *CARDS), 15, 0)]
)
def test_memory_counts_once(found: tuple[Device, ...], own: int, shared: int) -> None:
    resources = Program.here().machine.resources(found)
    assert (resources.gpu_available, resources.gpu_of_ram) == (own * GIB, shared * GIB)


PEER = Device("RPC0", "10.0.0.2:50052", 64 * GIB, 64 * GIB, peer="10.0.0.2:50052")


def test_peers_add_memory_of_their_own(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    resources = Program.here().machine.resources((*CARDS, PEER))
    assert resources.gpu_available == 15 * GIB
    assert resources.peers == (PeerMemory("10.0.0.2:50052", 64 * GIB, 64 * GIB),)


def test_peers_are_asked_once_where_all_answer_and_again_after_a_while_where_one_did_not(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    surveys = [PeerSurvey((PEER,)), PeerSurvey(faults={"10.0.0.2:50052": "off"}), PeerSurvey(faults={"a:1": "off"})]
    monkeypatch.setattr(devices, "survey_peers", lambda _peers: surveys.pop())
    monkeypatch.setattr(devices, "ask_worker", lambda: Hello("1", "", [], offload=True))
    monkeypatch.setenv("QWENCHAT_MODEL_RPC", "10.0.0.2:50052")
    program = Program.here()
    assert not program.usable().peers and not program.usable().peers and len(surveys) == 2
    monkeypatch.setattr(machine, "_ASK_AGAIN_S", 0.0)
    assert not program.usable().peers and len(surveys) == 1
    assert [len(program.usable().peers) for _look in range(2)] == [1, 1]


@pytest.mark.parametrize(("variable", "count"), [("QWENCHAT_HUB_OFFLINE", 1), ("QWENCHAT_MODEL_GPU_LAYERS", 0)])
def test_peers_that_the_settings_forbid_are_not_asked(
    variable: str, count: int, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    asked: list[tuple[str, ...]] = []

    def survey(peers: tuple[str, ...]) -> PeerSurvey:
        asked.append(peers)
        return PeerSurvey()

    monkeypatch.setattr(devices, "survey_peers", survey)
    monkeypatch.setattr(devices, "ask_worker", lambda: Hello("1", "", [], offload=True))
    monkeypatch.setenv("QWENCHAT_MODEL_RPC", "10.0.0.2:50052,127.0.0.1:50053")
    monkeypatch.setenv(variable, {"QWENCHAT_HUB_OFFLINE": "true"}.get(variable, "0"))
    Program.here().usable()
    assert asked == [("127.0.0.1:50053",)] * count


def answered(model_file: str, usage: Usage) -> Message:
    return Message(
        id="1",
        session="1",
        parent=None,
        role=Role.ASSISTANT,
        parts=(),
        created=0,
        model_file=model_file,
        usage=usage,
        timings=Timings(decode_tps=8.0),
    )


def test_an_answer_by_peers_says_nothing_about_the_speed_here(home: Path) -> None:
    machine = Program.here().machine
    assert host_in("rpc://10.0.0.2:50052,b:1#abc") == "10.0.0.2:50052,b:1"
    for model_file in ("rpc://10.0.0.2:50052,b:1#abc", "abc"):
        machine.note_speed(answered(model_file, Usage(10, 0, 100)))
    assert list(machine.measured.speeds()) == ["abc"]


def test_guessed_tokens_do_not_make_a_model_faster(home: Path) -> None:
    machine = Program.here().machine
    machine.note_speed(answered("a", Usage(10, 0, 200, drafted_tokens=160, accepted_tokens=100)))
    machine.note_speed(answered("b", Usage(10, 0, 200, drafted_tokens=199, accepted_tokens=199)))
    assert {name: speed.decode_tps for name, speed in machine.measured.speeds().items()} == {"a": 4.0}
