"""Any dialect to any provider: every cell is done, refused by design, or a named gap, and docs/matrix.md says which."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import uvloop

from tests.matrix.cells import ASKED, Key, Outcome, outcomes
from tests.matrix.document import PATH, document
from tests.matrix.features import FEATURES, Feature
from tests.matrix.said import Asked, Got, Script

KEYS = [(dialect.NAME, wire.NAME, feature.name) for dialect, wire, feature in ASKED]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Key, Outcome]:
    folder: Path = tmp_path_factory.mktemp("matrix")
    return uvloop.run(outcomes(folder))


@pytest.mark.parametrize("key", KEYS, ids="-".join)
def test_a_cell_is_done_or_refused_or_a_named_gap(found: Mapping[Key, Outcome], key: Key) -> None:
    assert found[key].kind != "failed", found[key].detail


ANSWER_ONLY = {"filtered", "refusal", "citations", "usage"}  # there is nothing to ask for


@pytest.mark.parametrize("feature", [each for each in FEATURES if each.name not in ANSWER_ONLY | {"choice_none"}], ids=lambda feature: feature.name)
def test_a_request_without_the_feature_is_not_taken_for_one_with_it(feature: Feature) -> None:
    assert not feature.asked(Asked())


@pytest.mark.parametrize("feature", [each for each in FEATURES if each.script != Script()], ids=lambda feature: feature.name)
def test_a_plain_answer_is_not_taken_for_one_with_the_feature(feature: Feature) -> None:
    assert not feature.got(Got(text="Hello there", finish="stop"))


def test_the_document_says_what_the_run_found(found: Mapping[Key, Outcome]) -> None:
    assert PATH.read_text() == document(found), "run `make matrix`"
