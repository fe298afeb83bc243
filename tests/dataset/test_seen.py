"""Which crops a model knows, by the digests of their pixels."""

import pytest

from stages.base.errors import UserError
from stages.dataset.seen import read_crops, write_crops


def test_a_crop_of_the_test_set_is_known_and_not_trained_on(tmp_path):
    digests = {name: name * 64 for name in "abcd"}
    write_crops([*digests.values()], ["train", "val", "test", "train"], tmp_path / "crops.csv")
    seen = read_crops(tmp_path / "crops.csv")
    assert [seen.trained_on(digests[name]) for name in "abcd"] == [True, True, False, True]
    assert all(map(seen.knows, digests.values()))
    assert not seen.knows(64 * "e") and not seen.trained_on(64 * "e")
    # The order of the crops does not matter, and a second copy of one adds nothing.
    before = (tmp_path / "crops.csv").read_bytes()
    write_crops(
        [*reversed(digests.values()), digests["a"]],
        ["train", "test", "val", "train", "train"],
        tmp_path / "crops.csv",
    )
    assert (tmp_path / "crops.csv").read_bytes() == before


@pytest.mark.parametrize(
    "content",
    ["", "pixels_sha256\n", "pixels_sha256,split\na\n", "pixels_sha256,split\na,trained\n"],
)
def test_a_damaged_list_is_refused(tmp_path, content):
    (tmp_path / "crops.csv").write_text(content)
    with pytest.raises(UserError, match=r"crops.csv is not as its stage wrote it"):
        read_crops(tmp_path / "crops.csv")
