"""Checks the installed llama.cpp: whether it loads, what it was compiled for, which accelerators it can use.

It is loaded only in a worker process, as for an answer, so that a crash does not end the report.
"""

import asyncio
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qwenchat.doctor.finding import Finding, failed, ok, warning
from qwenchat.engines.local.devices import PeerSurvey
from qwenchat.engines.local.memory import lacks_memory, memory_error
from qwenchat.engines.local.peers import CMAKE_OPTION
from qwenchat.engines.local.process import WorkerProcess, install_command
from qwenchat.engines.local.protocol import Hello
from qwenchat.errors import ExitCode, QwenchatError
from qwenchat.i18n import _, clauses, enumerated
from qwenchat.runtime.program import Program
from qwenchat.text.safe import human_size

_TIMEOUT_S = 60.0
_NAMES = {"AVX2": "AVX2", "AVX512": "AVX-512", "OPENMP": "OpenMP"}
"""Features that matter for speed: llama.cpp's name and the common one."""
_CPU_FLAGS = {"AVX2": "avx2", "AVX512": "avx512f"}
"""The flags of the processor in /proc/cpuinfo."""


def llama_cpp(program: Program, *, online: bool) -> Iterator[Finding]:
    """Check that llama.cpp loads, how it was built, which accelerators it uses, and its peers, if `online`."""
    try:
        hello = asyncio.run(_hello())
    except (QwenchatError, TimeoutError) as error:
        then = install_command()
        if lacks_memory(error):
            error = memory_error()
            then = error.hint
        words = error.message if isinstance(error, QwenchatError) else _("it does not respond")
        yield failed("llama.cpp", "llama.cpp", words, then=then, exit_code=ExitCode.CANNOT_LOAD)
        return
    yield ok("llama.cpp", "llama.cpp", _("it works: llama-cpp-python {version}").format(version=hello.binding))
    yield _build(hello)
    yield _accelerator(program, hello)
    yield from _peers(program, hello, online=online)


async def _hello() -> Hello:
    with tempfile.TemporaryDirectory() as folder:
        worker = await WorkerProcess.start(Path(folder) / "engine.log")
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return await worker.hello()
        finally:
            await worker.close()


def _build(hello: Hello) -> Finding:
    """Compare what llama.cpp was compiled for with what the processor can do."""
    title, flags = _("compiled for"), features(hello.features)
    wanted = [name for name, flag in _CPU_FLAGS.items() if flag in _processor_flags()]
    if sys.platform == "linux":
        wanted.append("OPENMP")
    shown = _NAMES if platform.machine().lower() in ("x86_64", "amd64") else {"OPENMP": "OpenMP"}
    yes, no = _("yes"), _("no")
    words = enumerated(f"{name} {yes if flag in flags else no}" for flag, name in shown.items())
    others = " ".join(sorted(flags - set(shown)))
    words += f" ({others})" if others else ""
    missing = [_NAMES[name] for name in wanted if name not in flags]
    if not missing:
        return ok("build", title, words)
    words = clauses(
        words, _("a build with {names} would be faster on this processor").format(names=enumerated(missing))
    )
    return warning("build", title, words, install_command("-DGGML_NATIVE=on"))


def features(text: str) -> set[str]:
    """Return the enabled features from llama.cpp's list, such as `CPU : AVX2 = 1 | OPENMP = 1 | `."""
    return {name for name, value in re.findall(r"(\w+) = (\w+)", text) if value != "0"}


def _processor_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


@dataclass(frozen=True, slots=True)
class _Accelerator:
    """An accelerator whose driver is loaded, whether or not llama.cpp can use it."""

    name: str
    option: str
    """The CMake option that builds for it."""
    mark: str
    """What llama.cpp's list of features contains when it was built for this accelerator."""


def _accelerator(program: Program, hello: Hello) -> Finding:
    """Compare the accelerators that llama.cpp can use with the one in this machine."""
    check, title, present = "accelerator", _("accelerator"), _present()
    if hello.devices:
        devices = [
            _("{name}: {what}, {free} free of {total}").format(
                name=device.name,
                what=device.description,
                free=human_size(device.memory_free),
                total=human_size(device.memory_total),
            )
            for device in hello.devices
        ]
        words = clauses(*devices)
        if program.settings.model.gpu_layers == 0:
            words = clauses(words, _("not used, because model.gpu_layers is 0"))
            return warning(check, title, words, 'qwenchat config set model.gpu_layers ""')
        return ok(check, title, words)
    if present is None:
        return ok(check, title, _("none; the processor is used"))
    if present.mark in hello.features:
        words = _("{name} is present and llama.cpp was built for it, but cannot use it").format(name=present.name)
        return warning(check, title, words, _("Check that its driver works (nvidia-smi, vulkaninfo)."))
    words = _("{name} is present, but the installed llama.cpp was built without support for it").format(
        name=present.name
    )
    return warning(check, title, words, install_command(present.option))


def _peers(program: Program, hello: Hello, *, online: bool) -> Iterator[Finding]:
    """Say whether llama.cpp was built with RPC, and which peers of the settings can be used. No address is reported."""
    title, peers = _("RPC"), program.settings.model.rpc
    if not hello.rpc and not peers:
        yield ok("rpc", title, _("not built in; only needed to spread a model over several computers"))
        return
    if not hello.rpc:
        words = _("not built in, so the peers of model.rpc can't be used")
        yield failed("rpc", title, words, then=install_command(CMAKE_OPTION), exit_code=ExitCode.CANNOT_LOAD)
        return
    yield ok("rpc", title, _("built in") if peers else _("built in; model.rpc names no peers"))
    allowed = program.allowed_peers
    survey = program.machine.survey_peers(allowed) if online and allowed else PeerSurvey()
    for number, peer in enumerate(peers, 1):
        check, name = f"peer:{number}", _("peer {number}").format(number=number)
        lent = [device for device in survey.devices if device.peer == peer]
        free, total = sum(device.memory_free for device in lent), sum(device.memory_total for device in lent)
        if reason := survey.faults.get(peer):
            then = _("Run there: {command}").format(command="qwenchat serve --rpc")
            yield failed(check, name, reason, then=then, exit_code=ExitCode.NETWORK)
        elif total:
            words = _("it answers: {free} free of {total}").format(free=human_size(free), total=human_size(total))
            yield ok(check, name, words)
        elif peer not in allowed:
            yield ok(check, name, _("not used, because hub.offline is on"))
        else:
            yield ok(check, name, _("not contacted (`qwenchat doctor --online` does that)"))


def _present() -> _Accelerator | None:
    """Return the accelerator whose driver is loaded; None without one."""
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return _Accelerator(_("Apple's GPU"), "-DGGML_METAL=on", "Metal")
    if Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi"):
        return _Accelerator(_("an NVIDIA GPU"), "-DGGML_CUDA=on", "CUDA")
    if Path("/dev/kfd").exists():
        return _Accelerator(_("an AMD GPU"), "-DGGML_VULKAN=on", "Vulkan")
    return None
