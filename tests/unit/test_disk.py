import os

import pytest

from agent_broker.disk import replace_file, require_private, require_root_owned
from agent_broker.errors import IntegrityError, UnavailableError


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_is_replaced_with_its_mode_and_leaves_nothing_behind(tmp_path, mode):
    path = tmp_path / "file"
    for content in (b"old", b"new"):
        replace_file(path, content, mode=mode)
        assert path.read_bytes() == content
        assert path.stat().st_mode & 0o777 == mode
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "target").write_bytes(b"theirs")
    (tmp_path / "file").symlink_to("target")
    replace_file(tmp_path / "file", b"ours")
    assert (tmp_path / "target").read_bytes() == b"theirs"
    assert not (tmp_path / "file").is_symlink()


def test_a_refused_replacement_leaves_the_old_file_alone(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(UnavailableError, match="can't be written"):
        replace_file(tmp_path / "file", b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    with pytest.raises(UnavailableError, match="No such file"):
        replace_file(tmp_path / "none" / "file", b"new")


@pytest.mark.parametrize(
    ("owner", "mode", "passes"), [(0, 0o644, True), (0, 0o664, False), (0, 0o646, False), (1, 0o600, False)]
)
def test_what_root_alone_could_have_written(tmp_path, owner, mode, passes):
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    os.chown(path, owner, 0)
    if passes:
        require_root_owned(path, path.lstat())
        return
    with pytest.raises(IntegrityError, match="others than root"):
        require_root_owned(path, path.lstat())


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o604, 0o601])
def test_what_is_private(tmp_path, mode):
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    if mode in {0o600, 0o400}:
        require_private(path, path.stat())
        return
    with pytest.raises(IntegrityError, match="0600"):
        require_private(path, path.stat())
