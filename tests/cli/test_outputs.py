from hypothesis import given
from hypothesis import strategies as st

from hrpose_cli.cli.outputs import unused_name

STEMS = st.lists(st.sampled_from(["a", "A", "a-2", "A-2", "a-3", "ß", "SS", "b"]) | st.text(max_size=3), max_size=20)


@given(STEMS, st.sampled_from(["", ".pose.png", "-2"]))
def test_unused_name_gives_no_name_twice(stems: list[str], suffix: str) -> None:
    taken: set[str] = set()
    names = [unused_name(taken, stem, suffix) for stem in stems]
    assert len({name.casefold() for name in names}) == len(stems)  # as file systems that ignore case see them
    assert taken == {name.casefold() for name in names}
    for number, (stem, name) in enumerate(zip(stems, names, strict=True)):
        assert name.startswith(stem)
        assert name.endswith(suffix)
        if not any(earlier.casefold() == f"{stem}{suffix}".casefold() for earlier in names[:number]):
            assert name == f"{stem}{suffix}"
