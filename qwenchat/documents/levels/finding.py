"""Finds the passages of documents that matter to a question, by one of three levels of reading.

Every level begins with a search by words; a question about the documents as a whole gets passages from all parts of
them at every level, since there is nothing to look for. A model that can't follow a conversation, such as the guide,
reads what level 1 finds by the question's own words.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from qwenchat.chat.events import Reading
from qwenchat.chat.message import Citation, Message
from qwenchat.chat.ports import Engine
from qwenchat.documents.index import DocumentIndex, OwnedDocument
from qwenchat.documents.levels.choice import STEPS, Speed, chosen_level, predicted_seconds
from qwenchat.documents.levels.passages import fitting, passage
from qwenchat.documents.levels.question import (
    Query,
    asks_for_all,
    asks_for_whole,
    languages_of,
    search_words,
    understood,
)
from qwenchat.documents.levels.reading import DocumentReading
from qwenchat.documents.levels.retrieval import ranked, spread
from qwenchat.documents.levels.small_request import SmallReply, SmallRequests
from qwenchat.documents.levels.steps import Steps
