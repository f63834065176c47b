"""A session's settings, as a person changes them."""

from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.widgets import Button, Input, OptionList, TextArea

from qwenchat.chat.sampling import Sampling
from qwenchat.chat.session import Session
from qwenchat.errors import WrongUse
from qwenchat.tui.dialogs.dialog import Complaint
from qwenchat.tui.dialogs.session import SessionScreen
from qwenchat.tui.dialogs.small import ConfirmScreen, TextScreen
from qwenchat.tui.prompt_library import PromptLibrary
from tests.fakes.ggufs import write_model
from tests.fakes.stores import full_session
from tests.tui.dialogs import DialogApp, StillProgram, program_in
from tests.tui.screens import is_open, until

WIDE = (100, 60)


@pytest.fixture
def program(tmp_path: Path) -> StillProgram:
    return program_in(tmp_path)


def put(app: DialogApp, name: str, text: str) -> None:
    app.screen.query_one(f"#{name}", Input).value = text


def keep(app: DialogApp) -> None:
    app.screen.query_one("#keep", Button).press()


async def test_nothing_changed_gives_the_same_session(program: StillProgram) -> None:
    session = replace(full_session(), sampling=Sampling(temperature=0.5, top_k=0, seed=7, stop=("a, b", " \n\\n")))
    app = DialogApp(SessionScreen(program, session))
    async with app.run_test(size=WIDE) as pilot:
        await until(lambda: app.focused)
        await pilot.press("enter")
        await until(lambda: app.closed)
        assert app.result == session


async def test_everything_changed(program: StillProgram) -> None:
    app = DialogApp(SessionScreen(program, Session(id="s", created=1, updated=2)))
    async with app.run_test(size=WIDE):
        await until(lambda: app.focused)
        put(app, "title", "[b]新[/b] title")
        put(app, "tags", "one, 二 ,one,,")
        put(app, "model", "7b:q4_k_m")
        app.screen.query_one("#system", TextArea).text = "Be brief.\nAlways."
        put(app, "temperature", "0.2")
        put(app, "max_tokens", "100")
        put(app, "context", "4096")
        keep(app)
        await until(lambda: app.closed)
        assert app.result == Session(
            id="s",
            created=1,
            updated=2,
            title="[b]新[/b] title",
            model="7b:q4_k_m",
            system="Be brief.\nAlways.",
            sampling=Sampling(temperature=0.2, max_tokens=100),
            context=4096,
            tags=("one", "二"),
        )


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("temperature", "hot", "is not a number"),
        ("temperature", "nan", "must be between"),
        ("top_p", "1.5", "must be between 0 and 1"),
        ("top_k", "1.5", "not a whole number"),
        ("max_tokens", "0", "must be between 1"),
        ("context", "100", "can't be 100 tokens"),
        ("context", "much", "not a whole number"),
        ("model", "7b:q9", "is not published as q9"),
    ],
)
async def test_what_is_wrong_is_told_in_its_place(program: StillProgram, name: str, text: str, says: str) -> None:
    app = DialogApp(SessionScreen(program, full_session()))
    async with app.run_test(size=WIDE) as pilot:
        await until(lambda: app.focused)
        complaint = app.screen.query_one(f"#about-{name}", Complaint)
        put(app, name, text)
        await until(lambda: says in complaint.text)
        keep(app)
        await until(lambda: app.focused is app.screen.query_one(f"#{name}"))
        assert not app.closed
        put(app, name, "")
        await until(lambda: not complaint.text)
        await pilot.press("escape")
        await until(lambda: app.closed)
        assert app.result is None


async def test_system_prompts_are_kept_chosen_and_deleted(program: StillProgram) -> None:
    prompts = PromptLibrary(program.paths.config / "prompts")
    prompts.save("Pirate", "Speak like a pirate.")
    app = DialogApp(SessionScreen(program, full_session()))
    async with app.run_test(size=WIDE) as pilot:
        listed = app.screen.query_one("#prompts", OptionList)
        await until(lambda: listed.option_count == 1)
        listed.focus()
        await pilot.press("home", "enter")
        await until(lambda: app.screen.query_one("#system", TextArea).text == "Speak like a pirate.")
        area = app.screen.query_one("#system", TextArea)
        area.undo()
        await until(lambda: area.text == "Be brief.")
        area.redo()
        app.screen.query_one("#save", Button).press()
        await until(lambda: is_open(app, TextScreen))
        await pilot.press(*"Corsair", "enter")
        await until(lambda: listed.option_count == 2)
        assert [(each.name, each.text) for each in prompts.all()] == [
            ("Corsair", "Speak like a pirate."),
            ("Pirate", "Speak like a pirate."),
        ]
        listed.focus()
        await pilot.press("home")
        app.screen.query_one("#delete", Button).press()
        await until(lambda: is_open(app, ConfirmScreen) and "Corsair" in app.words)
        await pilot.press("tab", "enter")
        await until(lambda: [each.name for each in prompts.all()] == ["Pirate"])
        await until(lambda: listed.option_count == 1)


async def test_a_prompt_that_can_not_be_used_is_named(program: StillProgram) -> None:
    folder = program.paths.config / "prompts"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text('text = "Be brief.\n')
    app = DialogApp(SessionScreen(program, full_session()))
    async with app.run_test(size=WIDE):
        complaint = app.screen.query_one("#about-prompts", Complaint)
        await until(lambda: "mine.toml is invalid: line 1" in complaint.text)


def test_prompts_on_disk(tmp_path: Path) -> None:
    prompts = PromptLibrary(tmp_path / "prompts")
    assert prompts.all() == []
    prompts.save("../../evil", 'Say "hi".\n\x1b[31m')
    prompts.save("译者", "翻译。")
    assert {file.parent for file in (tmp_path / "prompts").rglob("*")} == {tmp_path / "prompts"}
    (tmp_path / "prompts" / "bad.toml").write_text("text = [")
    (tmp_path / "prompts" / "none.toml").write_text("name = 'x'")
    (tmp_path / "prompts" / "by hand.toml").write_text('text = "Mine."')
    assert [(each.name, each.text) for each in prompts.all()] == [
        ("../../evil", 'Say "hi".\n[31m'),
        ("by hand", "Mine."),
        ("译者", "翻译。"),
    ]
    (tmp_path / "prompts" / "name.toml").write_text('text = "x"\nname = 3')
    (tmp_path / "prompts" / "deep.toml").write_text("a = " + "[" * 100_000)
    problems = [f"{error.message} {error.hint}" for error in prompts.read()[1]]
    for name, reason in (
        ("bad", "line 1"),
        ("deep", "it is nested too deeply"),
        ("name", '"name" must be text in quotation marks, not 3'),
        ("none", '"text" is missing'),
    ):
        assert f"{name}.toml is invalid: {reason}." in problems.pop(0)
    assert not problems
    for each in prompts.all():
        prompts.delete(each)
    assert prompts.all() == []
    with pytest.raises(WrongUse):
        prompts.save(" ", "text")


async def test_it_speaks_in_words_and_shows_what_holds_by_default(program: StillProgram) -> None:
    app = DialogApp(SessionScreen(program, Session(id="s", created=1, updated=2), "Qwen2 7B"))
    async with app.run_test(size=WIDE):
        await until(lambda: app.focused)
        assert "Repeat penalty" in app.words and "repeat-penalty" not in app.words
        shown = {field.id: field.placeholder for field in app.screen.query(Input)}
        assert shown["temperature"] == "model default"
        assert shown["context"] == "default: automatic (as large as fits)"
        assert shown["model"] == "default: last used"


async def test_it_opens_at_the_system_prompt_with_the_caret_at_its_end(program: StillProgram) -> None:
    session = Session(id="s", created=1, updated=2, system="Be brief.\nAnd kind.")
    app = DialogApp(SessionScreen(program, session, at_system=True))
    async with app.run_test(size=WIDE):
        await until(lambda: isinstance(app.focused, TextArea))
        area = app.screen.query_one("#system", TextArea)
        assert app.focused is area and area.selected_text == ""
        assert area.cursor_location == area.document.end


async def test_a_file_is_chosen_by_its_name(program: StillProgram) -> None:
    program.paths.models.mkdir(parents=True)
    path = write_model(program.paths.models / "m.gguf", name="Qwen2.5 Coder 0.5B Instruct")
    app = DialogApp(SessionScreen(program, Session(id="s", created=1, updated=2, model="guide")))
    async with app.run_test(size=WIDE) as pilot:
        field = app.screen.query_one("#model", Input)
        await until(lambda: field.suggester)
        field.focus()
        await pilot.press("ctrl+u", *"qwen2.5 c")
        await until(lambda: field._suggestion)
        await pilot.press("right", "enter")
        await until(lambda: app.closed)
        assert isinstance(app.result, Session) and app.result.model == str(path)
