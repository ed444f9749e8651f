"""A search by suggest and ingest: the same as by ask and tell, for arrays and for named parts."""

import numpy as np
import pytest

import kerasbed as kb

pytestmark = pytest.mark.one_backend
BOX = kb.designs.Box((2,), 0.0, 1.0, seed=0)
PARTS = kb.designs.Product(times=kb.designs.Times(2, 0.0, 1.0), dose=kb.designs.Box((1,), 1.0, 2.0))


def test_suggestions_are_what_is_asked_and_what_comes_back_is_told():
    ours, asked = (kb.search.BlackBoxSearch(None, BOX, batch_size=3, initial=3, seed=1) for _ in range(2))
    for _ in range(2):
        points, proposals = ours.suggest(), asked.ask()
        for point, proposal in zip(points, proposals, strict=True):
            assert point == {"x_1": proposal.design[0], "x_2": proposal.design[1], "_id": proposal.id}
        values = [-((point["x_1"] - 0.3) ** 2) for point in points]
        ours.ingest([point | {"value": value} for point, value in zip(points, values, strict=True)][::-1])
        asked.tell(proposals, values)
    assert ours.best.value == asked.best.value
    assert ours.returns_id
    assert len(ours.suggest(5)) == 5


def test_points_from_elsewhere_have_entries_by_name_and_errors(tmp_path):
    search = kb.search.BlackBoxSearch(None, PARTS, seed=1, path=tmp_path / "state.json")
    (point,) = search.suggest(1)
    assert set(point) == {"times_1", "times_2", "dose", "_id"}
    search.ingest(
        [{"times_1": 0.2, "times_2": 0.7, "dose": 1.5, "value": 2.0, "value_se": 0.1}, point | {"value": np.nan}]
    )
    np.testing.assert_allclose(search.best.design["times"], [0.2, 0.7], atol=1e-4)
    assert search.best.error == 0.1
    assert search.table()["status"].tolist() == ["failed", "done"]
    search.finalize()
    assert len(kb.search.BlackBoxSearch.load(tmp_path / "state.json").table()) == 2


@pytest.mark.parametrize(
    ("point", "message"),
    [({"x_1": 0.5, "x_2": 0.5}, "its 'value' was expected"), ({"x_1": 0.5, "value": 1.0}, r"\['x_2'\] of its design")],
)
def test_incomplete_points_are_refused(point, message):
    with pytest.raises(ValueError, match=message):
        kb.search.BlackBoxSearch(None, BOX, seed=0).ingest([point])
