"""A model file that changes while it is loaded: noticed at the next question, explained where the worker dies of it."""

import os
from pathlib import Path

import pytest

from qwenchat.chat.events import Delta
from qwenchat.chat.sampling import Sampling
from qwenchat.errors import CannotLoad, EngineDied
from tests.fakes import ggufs
from tests.fakes.engines import answer, engine, questions, request

LIMIT = Sampling(temperature=0.0, max_tokens=3)


@pytest.fixture
def own(endless: ggufs.Chain, tmp_path: Path) -> Path:
    path = tmp_path / "own.gguf"
    path.write_bytes(endless.path.read_bytes())
    return path


async def test_a_file_that_is_replaced_is_loaded_again(own: Path, chain: ggufs.Chain, tmp_path: Path) -> None:
    async with engine(own, tmp_path) as made:
        assert not (await made.load()).warnings
        before = made.worker_pid
        assert (await made.load()).warnings == () and made.worker_pid == before
        new = tmp_path / "new"
        new.write_bytes(chain.path.read_bytes())
        new.replace(own)
        assert (await answer(made, questions("Hi"))).text == chain.text
        assert made.worker_pid != before
        assert "changed while it was loaded" in (await made.load()).warnings[0]


async def test_a_file_that_is_deleted_stays_loaded(own: Path, tmp_path: Path) -> None:
    async with engine(own, tmp_path) as made:
        await made.load()
        own.unlink()
        assert (await answer(made, questions("Hi"), LIMIT)).usage.completion_tokens == 3


async def test_a_copy_that_is_cut_short_is_refused_at_the_next_question(own: Path, tmp_path: Path) -> None:
    async with engine(own, tmp_path) as made:
        await made.load()
        os.truncate(own, own.stat().st_size // 2)
        with pytest.raises(CannotLoad):
            await answer(made, questions("Hi"), LIMIT)


async def test_a_file_that_is_cut_short_in_mid_answer_is_the_reason(own: Path, tmp_path: Path) -> None:
    async with engine(own, tmp_path, n_ctx=32768) as made:
        text = ""
        with pytest.raises(EngineDied, match="was changed while it was loaded"):
            async for event in made.generate(request(questions("Go"))):
                if isinstance(event, Delta):
                    text += event.text
                    os.truncate(own, 4096)
        assert text
