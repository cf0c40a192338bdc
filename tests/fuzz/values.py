"""Odd values, as people, programs and accidents write them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Recipe = dict[str, Any]
"""What a case is made of: values that JSON could hold, so that a failing case can be printed."""

WILD_TEXTS = (
    *("", " ", "-", "--", "nan", "inf", "-inf", "1e308", "-1e308", "1e-320", "-1", "0", "0.5", "1.5", "1e9", "1e10"),
    *(
        "1000000",
        "4294967296",
        str(2**63),
        str(-(2**63) - 1),
        str(10**30),
        "9" * 400,
        "0x10",
        "1_0",
        "١",
        "1,2",
        "None",
    ),
    *(
        "True",
        "false",
        "auto",
        "none",
        "abc",
        "[bold]x[/bold]",
        "[/]",
        "ä€漢",
        "a\nb",
        "a\tb",
        "\x1b[31mred",
        "x" * 3000,
    ),
    *(
        "\udcff",
        "%s%d",
        "{0}",
        "$HOME",
        "~nobody",
        "~no-such-user/x",
        ".",
        "/dev/null",
        "/dev/zero",
        "os.path:join",
        "json:loads",
    ),
    *("digits", "timm:nothing", "hf:", "hf:a/b", "'", '"', "\\", "\u202e", "../../x", "a/b/c", "*.tar", "x-{0..3}.tar"),
)
TEXTS = st.one_of(
    st.sampled_from(WILD_TEXTS),
    st.text(st.characters(exclude_characters="\0/~"), max_size=12).filter(lambda text: text != ".."),
    st.integers(-(10**12), 10**12).map(str),
    st.floats(width=32).map(str),
)
PLACES = st.integers(0, 9999)
"""Where in a file or a list, in ten thousandths of its length."""

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.sampled_from([10**9, 10**18, 2**63, 2**64, 10**19, 10**30, -(2**63), 1e-320, 1e300, -0.0, 0.5, 1.5]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(WILD_TEXTS),
    st.text(max_size=8),
)
JSON_VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
)


def at(place: int, length: int) -> int:
    """The position that one of PLACES stands for, from 0 to below `length` (0 where that is 0)."""
    return min(place * length // 10_000, max(length - 1, 0))
