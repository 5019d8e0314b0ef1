"""Event names, and the patterns that stand for many of them."""

import pytest

from models.event_pattern import is_event_name, is_pattern, matches


@pytest.mark.parametrize(
    ("text", "name", "pattern"),
    [
        ("order", True, True),
        ("order.created", True, True),
        ("a.b.c.d", True, True),
        ("ats/application/created", True, True),
        ("mixed.of/both", True, True),
        ("Order_Created-2", True, True),
        ("0", True, True),
        ("x" * 200, True, True),
        ("x" * 201, False, False),
        ("*", False, True),
        ("order.*", False, True),
        ("ats/application/*", False, True),
        ("a.b/c.*", False, True),
        ("x" * 198 + ".*", False, True),
        ("x" * 199 + ".*", False, False),
        ("", False, False),
        (".", False, False),
        ("order.", False, False),
        (".order", False, False),
        ("order..created", False, False),
        ("order./created", False, False),
        ("order created", False, False),
        ("order.créé", False, False),
        ("order.created\n", False, False),
        ("order\0", False, False),
        ("order*", False, False),
        ("*.created", False, False),
        ("order.*.created", False, False),
        ("order.**", False, False),
        ("**", False, False),
        (".*", False, False),
        ("/*", False, False),
        ("order.*\n", False, False),
    ],
)
def test_what_may_be_a_name_and_what_a_pattern(text: str, name: bool, pattern: bool) -> None:
    assert (is_event_name(text), is_pattern(text)) == (name, pattern)


@pytest.mark.parametrize(
    ("pattern", "name", "wanted"),
    [
        ("order.created", "order.created", True),
        ("order.created", "order.created.again", False),
        ("order.created", "Order.created", False),
        ("order", "order.created", False),
        ("order.*", "order.created", True),
        ("order.*", "order.line.added", True),
        ("order.*", "order", False),
        ("order.*", "orders.created", False),
        ("order.*", "order/created", False),
        ("order.line.*", "order.created", False),
        ("ats/application/*", "ats/application/created", True),
        ("ats/application/*", "ats/applicant", False),
        ("*", "order", True),
        ("*", "ats/application/created", True),
    ],
)
def test_which_names_a_pattern_wants(pattern: str, name: str, wanted: bool) -> None:
    assert matches(pattern, name) is wanted
