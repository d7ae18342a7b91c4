"""A target is out once it has been unwell for a while, and is counted on again when it is well or has long not been tried."""

from policy.outages import Outages, Standing


def after(*looks: tuple[float, Standing]) -> list[bool]:
    """Whether the one target is out, after each look."""
    outages, found = Outages(settle_s=15.0, retry_s=60.0), []
    for now, standing in looks:
        outages.look({"one": standing, "other": "well"}, now)
        assert "other" not in outages.out
        found.append("one" in outages.out)
    return found


def test_a_moment_is_no_outage_and_a_while_is() -> None:
    assert after((0, "unwell"), (14, "unwell"), (15, "unwell"), (30, "untried"), (45, "unwell")) == [False, False, True, True, True]


def test_one_good_look_ends_it() -> None:
    assert after((0, "unwell"), (20, "unwell"), (30, "well"), (31, "unwell"), (40, "unwell")) == [False, True, False, False, False]


def test_what_nobody_tries_is_counted_on_again_until_it_is_unwell_once_more() -> None:
    looks: list[tuple[float, Standing]] = [(0, "unwell"), (20, "untried"), (79, "untried"), (80, "untried"), (200, "untried"), (215, "unwell")]
    assert after(*looks, (230, "unwell")) == [False, True, True, False, False, False, True]


def test_what_is_not_there_any_more_is_forgotten() -> None:
    outages = Outages(settle_s=1.0, retry_s=60.0)
    outages.look({"one": "unwell"}, 0.0)
    outages.look({"one": "unwell"}, 2.0)
    assert outages.out == {"one"}
    outages.look({}, 3.0)
    assert outages.out == frozenset()
