"""Where waiting questions enter the tree."""

from qwenchat.chat.message import Message, Role, text_parts
from qwenchat.chat.session import WaitingQuestion
from qwenchat.chat.tree import Tree


def message(name: str, parent: str | None = None, created: int = 1) -> Message:
    role = Role.USER if name.startswith("q") else Role.ASSISTANT
    return Message(id=name, session="s", parent=parent, role=role, parts=text_parts(name), created=created)


def waiting(name: str, follows: str | None) -> WaitingQuestion:
    return WaitingQuestion(id=name, session="s", follows=follows, text=name, created=9)


TREE = Tree([message("q1"), message("a1", "q1", 2), message("a2", "q1", 3), message("q2", "a1", 4)])


def test_a_waiting_question_follows_the_newest_answer_to_the_question_before_it() -> None:
    assert TREE.place_for("q1", "a1") == "a2"


def test_it_follows_an_answer_or_an_unanswered_question_itself() -> None:
    assert TREE.place_for("a1", "q2") == "a1"
    assert TREE.place_for("q2", "q2") == "q2"


def test_it_follows_the_leaf_where_what_it_followed_is_gone() -> None:
    assert TREE.place_for("gone", "q2") == "q2"
    assert TREE.place_for("gone", "gone too") is None
    assert TREE.place_for("gone", None) is None


def test_the_first_of_a_session_follows_nothing() -> None:
    assert TREE.place_for(None, "q2") is None


def test_several_enter_in_the_order_in_which_they_were_asked() -> None:
    asked = [waiting("w1", "q1"), waiting("w2", "w1"), waiting("w3", "gone")]
    entered = [(each.id, each.parent) for each in TREE.unanswered(asked, "q2")]
    assert entered == [("w1", "a2"), ("w2", "w1"), ("w3", "w2")]
