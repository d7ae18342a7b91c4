"""While a target is gone everybody is served by another; when it is back it is used again before long."""

from pathlib import Path

import pytest

from policy.breaker import FIRST_OPEN_S
from tests.faults.outage import outage
from tests.gateway.upstream import Upstream

KINDS = pytest.mark.parametrize("kind", ["refused", "503"])


@KINDS
async def test_everybody_is_served_through_a_short_outage_and_the_primary_is_used_again(
    one: Upstream, two: Upstream, tmp_path: Path, kind: str
) -> None:
    answers = await outage(one, two, tmp_path, kind, lasts_s=3.0, every_s=0.15, after_s=2.5 * FIRST_OPEN_S)
    assert {answer.status for answer in answers} == {200}
    assert max(answer.took for answer in answers) < 2.0
    assert answers[0].target == "one/m1" and {answer.target for answer in answers if -2.5 < answer.at < 0} == {"two/m2"}
    assert answers[-1].target == "one/m1", "the primary is back, and is not used"
    opened = [seen for seen in one.journal if seen.body["model"] == "m1"]
    assert len(opened) < len(answers), "a target that is known to be down is not asked every time"


@pytest.mark.slow
@pytest.mark.timeout(150)
@KINDS
async def test_a_minute_s_outage_with_a_request_every_4_s_is_not_felt(one: Upstream, two: Upstream, tmp_path: Path, kind: str) -> None:
    answers = await outage(one, two, tmp_path, kind, lasts_s=60.0, every_s=4.0, after_s=34.0)
    assert {answer.status for answer in answers} == {200}
    assert max(answer.took for answer in answers) < 2.0
    back = [answer.at for answer in answers if answer.at > 0 and answer.target == "one/m1"]
    assert back and back[0] <= 30.0, f"the primary was used again {back[:1]} s after it was back"
