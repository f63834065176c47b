"""Chats that a server saves, beside other programs that change the same sessions."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qwenchat.chat.events import Finished
from qwenchat.chat.message import FinishReason, Text, Timings, Usage
from qwenchat.chat.ports import Mode, ModelInfo
from qwenchat.chat.prompt import Turn
from qwenchat.chat.sampling import UNSET
from qwenchat.errors import QwenchatError
from qwenchat.server.chat import AnsweredChat
from qwenchat.server.chat_messages import ReadChat
from qwenchat.server.saving import SavedChats
from qwenchat.sessions.store import Store
from tests.fakes.stores import store_in

INFO = ModelInfo(reference="guide", name="Guide", file="f" * 32, n_ctx=512, defaults=UNSET, load_s=0.0)
FIRST = (Turn("user", "Hello"),)
SECOND = (*FIRST, Turn("assistant", "Yes."), Turn("user", "And then?"))


def answered(turns: tuple[Turn, ...]) -> AnsweredChat:
    finished = Finished(FinishReason.STOP, Usage(), Timings())
    chat = ReadChat(turns=turns, mode=Mode.ANSWER)
    return AnsweredChat(chat=chat, parts=(Text("Yes."),), sampling=UNSET, info=INFO, finished=finished)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = store_in(tmp_path)
    yield made
    made.close()


def delete_forever(store: Store, session: str) -> None:
    store.trash.delete_forever(session)


def move_to_trash(store: Store, session: str) -> None:
    store.trash.put(session)


def remove_answer(store: Store, session: str) -> None:
    leaf = store.session(session).leaf
    assert leaf
    store.trash.remove_message(leaf)


@pytest.mark.parametrize("gone", [delete_forever, move_to_trash, remove_answer])
def test_a_chat_that_the_user_deleted_meanwhile_is_saved_anew(
    gone: Callable[[Store, str], object], store: Store
) -> None:
    failures = list[QwenchatError]()
    chats = SavedChats(store, failures.append)
    chats.add(answered(FIRST))
    while not (sessions := store.sessions()) or len(store.branch(sessions[0].leaf)) < 2:
        pass
    gone(store, sessions[0].id)
    chats.add(answered(SECOND))
    chats.close()
    (new,) = [session for session in store.sessions() if session.id != sessions[0].id]
    assert not failures
    assert [message.text for message in store.branch(new.leaf)] == ["Hello", "Yes.", "And then?", "Yes."]
