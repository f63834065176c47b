"""What is drafted from a growing text, and when: no model, and every cost as it is estimated."""

from array import array
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from qwenchat.engines.worker.draft_account import LONGEST_DRAFT, SHORTEST_DRAFT
from qwenchat.engines.worker.speculation import Lookup
from qwenchat.engines.worker.step_costs import MOST_OUTPUTS, StepCosts, estimated_cost

ROOM = 1 << 16


def lookup(*tokens: int) -> Lookup:
    return Lookup(array("i", tokens), ROOM, estimated_cost)


def drafted(text: list[int], answer: list[int]) -> list[tuple[int, int]]:
    """Return of each draft of an answer how long it was and how much of it was right; another token follows it."""
    tokens = array("i", [*text, answer[0]])
    found, drafts = Lookup(tokens, ROOM, estimated_cost), list[tuple[int, int]]()
    done = 1
    while done < len(answer):
        draft = found.draft(LONGEST_DRAFT).tolist()
        pairs = zip(draft, answer[done:], strict=False)
        accepted = next((place for place, (one, other) in enumerate(pairs) if one != other), len(draft))
        if draft:
            found.learn(len(draft), accepted)
            drafts.append((len(draft), accepted))
        tokens.extend(answer[done : done + accepted + 1])
        done += accepted + 1
    return drafts


def test_what_followed_the_last_tokens_before_is_drafted() -> None:
    assert lookup(1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4).draft(31).tolist() == [5, 6, 7]
    assert lookup(1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4).draft(2).tolist() == [5, 6]
    assert lookup(1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 2, 3, 4).draft(31).tolist() == [5, 6, 7]  # three are enough
    assert not lookup(1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 3, 4).draft(31)
    assert not lookup(1, 2, 3).draft(31) and not lookup().draft(31)


def test_the_longest_match_wins_and_of_equal_ones_the_last() -> None:
    longer, later = (1, 2, 3, 4, 50), (9, 2, 3, 4, 60)
    assert lookup(0, *longer, *later, 1, 2, 3, 4).draft(1).tolist() == [50]
    assert lookup(0, *later, *later[:4], 70, 9, 2, 3, 4).draft(1).tolist() == [70]


def test_what_has_no_end_yet_repeats_itself() -> None:
    assert lookup(0, 1, 2, 1, 2, 1, 2).draft(3).tolist() == [1, 2, 1]


@given(st.lists(st.integers(0, 2), max_size=60))
def test_a_draft_stood_after_the_same_tokens(tokens: list[int]) -> None:
    draft = lookup(*tokens).draft(1).tolist()
    places = [place for place in range(3, len(tokens)) if tokens[place - 3 : place] == tokens[-3:]]
    assert bool(draft) == bool(places and len(tokens) > 4 and max(places) >= 4)
    assert not draft or draft[0] in {tokens[place] for place in places}


def test_drafts_double_while_they_are_right() -> None:
    text = list(range(200))
    assert [length for length, _right in drafted(text, text)][:7] == [3, 7, 15, 31, 31, 31, 31]


def test_drafts_get_shorter_where_they_were_wrong() -> None:
    text = list(range(200))
    changed = [*text[:40], 999, *text[41:]]
    assert drafted(text, changed)[:5] == [(3, 3), (7, 7), (15, 15), (31, 8), (11, 11)]
    assert drafted(text, [*text[:35], 999, *text[36:]])[3:5] == [(31, 3), (SHORTEST_DRAFT, 3)]


def test_noise_soon_ends_all_guessing_and_a_long_quotation_begins_it_again() -> None:
    draw = Random(1)
    noise, other = (draw.choices(range(5), k=500) for _text in range(2))  # three tokens often stand there again
    quoted = list(range(1000, 1200))
    missed = drafted([*quoted, *noise], other)
    assert sum(right for _length, right in missed) < 30
    assert sum(estimated_cost(length + 1) - 1 - right for length, right in missed) < 10
    both = drafted([*quoted, *noise], [*other, *quoted])
    assert sum(right for _length, right in both) > 150


def test_a_long_text_is_indexed_in_pieces() -> None:
    tokens = array("i", range(50_000))
    tokens.extend(range(40, 48))
    found = Lookup(tokens, ROOM, estimated_cost)
    sizes = []
    for _step in range(60):
        before = found._indexed
        draft = found.draft(LONGEST_DRAFT)
        sizes.append(found._indexed - before)
    assert max(sizes) < 2000 and found._indexed == len(tokens)
    assert draft.tolist() == [48, 49, 50]


def test_memory_does_not_grow_with_the_text() -> None:
    tokens = array("i", range(1000))
    found = Lookup(tokens, ROOM, estimated_cost)
    size = len(found._after)
    for _step in range(100):
        tokens.extend(range(1000, 2000))
        found.draft(LONGEST_DRAFT)
    assert len(found._after) == size <= 8 * ROOM


def test_costs_are_learned_from_steps() -> None:
    costs = StepCosts()
    assert [costs.cost(tokens) for tokens in (1, 8, 32)] == [estimated_cost(tokens) for tokens in (1, 8, 32)]
    costs.learn(8, 1.0)  # nothing to compare it with
    assert costs.cost(8) == estimated_cost(8)
    for _step in range(40):
        costs.learn(1, 0.1)
        costs.learn(8, 0.12)
        costs.learn(32, 2.0)
    assert 1.1 < costs.cost(8) < 1.3 and 19 < costs.cost(32) < 21
    costs.learn(1, 3600.0)  # asleep
    costs.learn(8, 3600.0)
    assert costs.cost(8) < 2


def test_estimates_grow_and_a_full_step_pays() -> None:
    costs = [estimated_cost(tokens) for tokens in range(1, MOST_OUTPUTS + 1)]
    assert costs[0] == 1 and all(one < other for one, other in pairwise(costs))
    assert all(cost < tokens for tokens, cost in enumerate(costs[1:], 2))
