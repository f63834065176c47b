"""What the user reads about the faults of a server: words, a kind of error and ways to go on, for each of them."""

import re
import socket
import ssl

import httpx2
import pytest

from qwenchat.cli.output import shell_advice
from qwenchat.engines.remote.explanations import explain
from qwenchat.engines.remote.faults import Attempt, Fault, FaultKind, from_event, from_exception, from_status
from qwenchat.engines.remote.keys import Key
from qwenchat.engines.remote.retry import ASK_ONCE, USUAL_RETRIES
from qwenchat.engines.remote.server import RemoteServer
from qwenchat.errors import NetworkError, PromptTooLong, RemoteError
from qwenchat.tui.advice import words

SERVER = RemoteServer(name="gpu", url="https://gpu.example:8080/v1")
ATTEMPT = Attempt(url="https://gpu.example:8080/v1/models", key=Key("sk-test"))


@pytest.mark.parametrize("is_detailed", [False, True])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("kind", FaultKind)
def test_every_fault_has_words_and_ways(kind: FaultKind, *, begun: bool, is_detailed: bool) -> None:
    detailed = Fault(kind=kind, status=599, said="{boom} %s", detail="{x}", retry_after_s=90.0)
    fault = detailed if is_detailed else Fault(kind=kind)
    error = explain(fault, SERVER, has_begun=begun)
    assert error.message and shell_advice(error) and "{host}" not in error.message + error.hint
    assert isinstance(error, RemoteError) or (type(error) is PromptTooLong and not begun)
    assert not isinstance(error, RemoteError) or (isinstance(error, NetworkError) and error.exit_code == 4)
    assert type(error) is not RemoteError and error.code.startswith(("remote_", "prompt_too_long"))
    assert fault.said in error.message
    on_screen_only = kind in (FaultKind.OFFLINE, FaultKind.CONTEXT, FaultKind.QUOTA, FaultKind.CONTENT)
    assert on_screen_only or "gpu" in shell_advice(error) or "the same command again" in shell_advice(error)
    assert not re.search(r"(?:^|\s)--?[a-z]|qwenchat (?:models|engines|ask)", words(error))


def test_codes_are_stable() -> None:
    kinds = {kind: explain(Fault(kind=kind), SERVER).code for kind in FaultKind}
    assert {code: sum(each == code for each in kinds.values()) for code in kinds.values()} == {
        "remote_unreachable": 7,
        "remote_unauthorised": 3,
        "remote_busy": 3,
        "remote_refused": 7,
        "prompt_too_long": 1,
        "remote_broken": 8,
    }


def raised(error: BaseException, *causes: BaseException) -> BaseException:
    for outer, inner in zip((error, *causes), causes, strict=False):
        outer.__cause__ = inner
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (raised(httpx2.ConnectError(""), socket.gaierror(-2, "x")), FaultKind.NAME),
        (raised(httpx2.ConnectError(""), ExceptionGroup("", [ConnectionRefusedError()])), FaultKind.REFUSED),
        (raised(httpx2.ConnectError(""), OSError(113, "No route to host")), FaultKind.NO_CONNECTION),
        (raised(httpx2.ConnectTimeout(""), TimeoutError()), FaultKind.NO_CONNECTION),
        (raised(httpx2.ConnectError(""), ssl.SSLCertVerificationError(1, "bad")), FaultKind.CERTIFICATE),
        (raised(httpx2.ConnectError(""), ssl.SSLError(1, "WRONG_VERSION_NUMBER")), FaultKind.NOT_TLS),
        (raised(httpx2.ReadError(""), ssl.SSLEOFError(8, "EOF")), FaultKind.CUT),
        (raised(httpx2.ReadError(""), ConnectionResetError()), FaultKind.CUT),
        (httpx2.ReadTimeout(""), FaultKind.SILENT),
        (TimeoutError(), FaultKind.SILENT),
        (httpx2.RemoteProtocolError("Server disconnected without sending a response."), FaultKind.CUT),
        (httpx2.RemoteProtocolError("illegal status line"), FaultKind.NOT_HTTP),
        (httpx2.SSEError("exceeded"), FaultKind.TOO_LARGE),
    ],
)
def test_exceptions(error: BaseException, kind: FaultKind) -> None:
    assert from_exception(ATTEMPT, error).kind is kind


def test_a_bug_stays_a_bug() -> None:
    with pytest.raises(KeyError):
        from_exception(ATTEMPT, KeyError("x"))


def test_an_address_that_does_not_answer_says_why() -> None:
    error = raised(httpx2.ConnectError(""), OSError(113, "No route to host"))
    assert "can't be reached: No route to host." in explain(from_exception(ATTEMPT, error), SERVER).message


@pytest.mark.parametrize("value", [None, [], {}, {"error": None}, {"choices": []}, {"error": ""}, "error", 3])
def test_what_is_no_error(value: object) -> None:
    assert from_event(ATTEMPT, value) is None


@pytest.mark.parametrize(
    "value",
    [{"error": 3}, {"error": []}, {"error": [1]}, {"error": {"message": {}, "code": []}}, {"error": {"code": 10**30}}],
)
def test_an_error_in_a_shape_that_nobody_knows(value: object) -> None:
    fault = from_event(ATTEMPT, value)
    assert fault is None or (fault.kind is FaultKind.FAILED and fault.said == "")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("This model's maximum context length is 4096 tokens. However, you requested 5000.", FaultKind.CONTEXT),
        ("You passed 5000 input tokens. However, the model's context length is only 4096 tokens.", FaultKind.CONTEXT),
        ("The decoder prompt is longer than the maximum model length of 4096.", FaultKind.CONTEXT),
        ("Requested tokens (5000) exceed context window of 2048", FaultKind.CONTEXT),
        ("the input length exceeds the context length", FaultKind.CONTEXT),
        ("the request exceeds the available context size (4096 tokens)", FaultKind.CONTEXT),
        ("The model is loaded with context length of only 4096 tokens, which is not enough", FaultKind.CONTEXT),
        ("Range of input length should be [1, 30720]", FaultKind.CONTEXT),
        ("Loading model", FaultKind.LOADING),
        ("No model is loaded.", FaultKind.FAILED),
        ("model 'qwen2:7b' not found", FaultKind.NO_MODEL),
        ("The model `qwen2` does not exist or you do not have access to it.", FaultKind.NO_MODEL),
        ("Model not exist.", FaultKind.NO_MODEL),
        ("llama runner process has terminated: signal: killed", FaultKind.FAILED),
        ("Input data may contain inappropriate content.", FaultKind.CONTENT),
        ("Access denied, please make sure your account is in good standing. Arrearage", FaultKind.QUOTA),
        ("Requests rate limit exceeded, please try again later.", FaultKind.BUSY),
        ("Too many requests.", FaultKind.BUSY),
    ],
)
def test_what_servers_say(said: str, kind: FaultKind) -> None:
    fault = from_event(ATTEMPT, {"error": {"message": said}})
    assert fault and fault.kind is kind and fault.said.startswith(said[:20])


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
        ({"Retry-After-Ms": "250.5", "Retry-After": "9"}, 0.2505),
        ({"Retry-After-Ms": "nan"}, None),
        ({"Retry-After-Ms": "9" * 500}, None),
    ],
)
def test_the_wait_that_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert from_status(ATTEMPT, 429, httpx2.Headers(headers), b"").retry_after_s == seconds


NEVER = {FaultKind.QUOTA, FaultKind.NO_KEY, FaultKind.WRONG_KEY, FaultKind.FORBIDDEN, FaultKind.NO_PATH}
NEVER |= {FaultKind.NO_MODEL, FaultKind.REQUEST, FaultKind.CONTEXT, FaultKind.CONTENT, FaultKind.REDIRECT}
NEVER |= {FaultKind.CERTIFICATE, FaultKind.PAGE, FaultKind.NOT_JSON, FaultKind.SILENT, FaultKind.OFFLINE}


@pytest.mark.parametrize("kind", FaultKind)
def test_what_is_asked_again(kind: FaultKind) -> None:
    fault = Fault(kind=kind, status=503, retry_after_s=1.0)
    assert ASK_ONCE.wait_s(fault, 1, 0) is None
    wait_s = USUAL_RETRIES.wait_s(fault, 1, 0)
    assert wait_s is None or kind not in NEVER
    assert USUAL_RETRIES.wait_s(fault, 4, 0) is None or kind is FaultKind.LOADING
