"""The documents of each session: those that came with its questions and are read in parts, and its collections.

They are indexed when a turn needs them, a private chat's in memory. Everything here can be made again from the session
and from the files of the collections, and nothing here reads a file or decides what a model is asked.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from threading import Lock
from typing import TYPE_CHECKING

from qwenchat.chat.events import Reading
from qwenchat.chat.message import Attachment, Citation, Message
from qwenchat.chat.ports import Engine, SessionStore
from qwenchat.chat.session import Session
from qwenchat.errors import NotFound
from qwenchat.runtime.program import Program

if TYPE_CHECKING:
    from qwenchat.documents.index import DocumentIndex, DocumentPage, OwnedDocument
    from qwenchat.documents.levels.choice import Speed
    from qwenchat.tools.builtin.search_documents import DocumentExcerpt


class SessionDocuments:
    """The documents of all sessions. Methods raise StoreError where the index can't be used."""

    def __init__(self, program: Program, is_private: Callable[[str], bool]) -> None:
        """`is_private` says of a session's id whether nothing of it may be written."""
        self._program, self._is_private = program, is_private
        self._private: DocumentIndex | None = None
        self._opening = Lock()
        self._read: dict[str, list[OwnedDocument]] = {}
        """By session, the documents of the branch that was read last."""

    def sources(self, session: Session) -> "SessionSources":
        """Return what finds passages for the questions of a session."""
        return SessionSources(self, session)

    def index(self, session_id: str) -> "DocumentIndex":
        """Return the index that the documents of a session are in. It blocks when it is opened."""
        from qwenchat.documents.index import DocumentIndex  # noqa: PLC0415 - most chats have no documents

        if not self._is_private(session_id):
            return self._program.documents
        with self._opening:
            self._private = self._private or DocumentIndex(None)
            return self._private

    def known(self, session: Session) -> "list[OwnedDocument]":
        """Return the documents of a session that are indexed; without any, no index is opened. It blocks."""
        is_private = self._is_private(session.id)
        has_index = self._private is not None if is_private else self._program.paths.documents.exists()
        if not has_index and not session.collections:
            return []
        from qwenchat.documents.index import chat_owner  # noqa: PLC0415

        index = self.index(session.id)
        found = {each.digest: each for each in index.owned(chat_owner(session.id))}
        return list((found | {each.digest: each for each in self._collected(session, index)}).values())

    def indexed(self, session: Session, branch: Sequence[Message]) -> "list[OwnedDocument]":
        """Index the documents of a branch where they are not, and return them with those of the collections. It blocks.

        The documents of other branches are not among them.
        """
        self._read[session.id] = []
        attached = {each.digest: each for each in in_parts(branch)}
        if not attached and not session.collections:
            return []
        from qwenchat.documents.document import document_of  # noqa: PLC0415
        from qwenchat.documents.index import chat_owner  # noqa: PLC0415

        index, owner = self.index(session.id), chat_owner(session.id)
        here = {each.digest for each in index.owned(owner)}
        index.add(owner, (document_of(each) for digest, each in attached.items() if digest not in here))
        found = {each.digest: each for each in index.owned(owner) if each.digest in attached}
        read = list((found | {each.digest: each for each in self._collected(session, index)}).values())
        self._read[session.id] = read
        return read

    async def page_of(self, store: SessionStore, session: Session, citation: Citation) -> "DocumentPage":
        """Return the page that a passage is on. Raises NotFound where its document is gone.

        A document of the chat that is not indexed, as after an import, is indexed for it.
        """
        return await asyncio.to_thread(self._page, store, session, citation.digest, citation.start)

    async def text_of(self, store: SessionStore, session: Session, digest: str) -> str:
        """Return the whole text of a document. Raises NotFound where it is gone."""
        return await asyncio.to_thread(self._text, store, session, digest)

    def search(self, session: Session, words: str, limit: int) -> "list[DocumentExcerpt]":
        """Return the places in the documents of the branch where words stand, the best first. It blocks."""
        from qwenchat.tools.builtin.search_documents import DocumentExcerpt  # noqa: PLC0415

        digests = [each.digest for each in self._read.get(session.id, ())]
        found = self.index(session.id).search(digests, [words], limit) if digests else []
        return [DocumentExcerpt(document=each.document, page=each.chunk.page, text=each.chunk.text) for each in found]

    def speed(self, model_file: str) -> "Speed | None":
        """Return how fast a model was when it was measured; None where it never was."""
        from qwenchat.documents.levels.choice import Speed  # noqa: PLC0415

        measured = self._program.machine.speed_of(model_file)
        if not measured or not measured.prefill_tps or not measured.decode_tps:
            return None
        return Speed(prefill_tps=measured.prefill_tps, decode_tps=measured.decode_tps)

    def close(self) -> None:
        """Forget the documents of private chats."""
        private, self._private = self._private, None
        if private:
            private.close()

    def _collected(self, session: Session, index: "DocumentIndex") -> "list[OwnedDocument]":
        """Return the documents of a session's collections, which a private chat has copies of."""
        from qwenchat.documents.document import Document  # noqa: PLC0415
        from qwenchat.documents.index import collection_owner  # noqa: PLC0415

        found: list[OwnedDocument] = []
        for owner in map(collection_owner, session.collections):
            shared = self._program.documents
            listed = [each for each in shared.owned(owner) if each.digest]
            if index is not shared:
                here = {each.digest for each in index.owned(owner)}
                missing = (each for each in listed if each.digest not in here)
                index.add(
                    owner,
                    (Document(name=e.name, media_type="text/plain", text=shared.text(e.digest)) for e in missing),
                )
            found += listed
        return found

    def _page(self, store: SessionStore, session: Session, digest: str, start: int) -> "DocumentPage":
        with suppress(NotFound):
            return self.index(session.id).page(digest, start)
        self._index_again(store, session, digest)
        return self.index(session.id).page(digest, start)

    def _text(self, store: SessionStore, session: Session, digest: str) -> str:
        with suppress(NotFound):
            return self.index(session.id).text(digest)
        self._index_again(store, session, digest)
        return self.index(session.id).text(digest)

    def _index_again(self, store: SessionStore, session: Session, digest: str) -> None:
        holding = [each for each in store.tree(session.id) if any(file.digest == digest for file in each.attachments)]
        self.indexed(session, holding)


def in_parts(branch: Sequence[Message]) -> list[Attachment]:
    """Return the documents of a branch that are read in parts."""
    return [each for message in branch for each in message.attachments if each.in_parts]


class SessionSources:
    """Implements `chat.sources.Sources` for the questions of one session."""

    def __init__(self, documents: SessionDocuments, session: Session) -> None:
        self._documents, self._session = documents, session
        self._found: list[OwnedDocument] = []

    async def prepare(self, branch: Sequence[Message]) -> bool:
        self._found = await asyncio.to_thread(self._documents.indexed, self._session, branch)
        return bool(self._found)

    async def find(
        self, engine: Engine, branch: Sequence[Message], room: int
    ) -> AsyncGenerator[Reading | Citation, None]:
        from qwenchat.documents.levels.finding import find  # noqa: PLC0415

        info = await engine.load()
        *history, question = branch
        index = await asyncio.to_thread(self._documents.index, self._session.id)
        async with aclosing(
            find(
                engine,
                index,
                self._found,
                question.text,
                history,
                room=room,
                level=self._session.level,
                speed=self._documents.speed(info.file),
            )
        ) as events:
            async for event in events:
                yield event
