"""What enrolling keyring finds in the files of twine, pip and uv, and what it leaves there."""

from pathlib import Path

import pytest

from agent_broker.enroll.document import open_document
from agent_broker.enroll.keyring_survey import KeyringSurvey
from agent_broker.enroll.recipe import RemoveMember, ReplaceFile, SetMember

PIP = ".config/pip/pip.conf"
UV = ".config/uv/uv.toml"


class Content:
    def __init__(self, data: bytes) -> None:
        self.data = data


class Files:
    """A home in memory."""

    def __init__(self, **files: str) -> None:
        self.files = {name: text.encode() for name, text in files.items()}
        self.links = {}

    def read(self, path):
        return Content(self.files[path]) if path in self.files else None

    def link_target(self, path):
        return self.links.get(path)

    def absolute(self, path):
        return f"/home/alice/{path}"


def survey_of(**files: str):
    return KeyringSurvey(Files(**files), Path("/usr/lib/shim")).survey()


def after(survey, path: str) -> str:
    """The file as enrolment leaves it."""
    (file,) = (each for each in survey.files if each.path == path)
    if isinstance(file.edits[0], ReplaceFile):
        return file.edits[0].data.decode()
    document = open_document(file.format, file.content.data)
    for edit in file.edits:
        if isinstance(edit, SetMember):
            document = document.with_value(edit.path, edit.value)
        elif isinstance(edit, RemoveMember):
            document = document.without(edit.path)
    return document.data.decode()


def moved(survey) -> list[tuple[str, str, bytes]]:
    return [
        (each.attributes["destination"], each.attributes["username"], each.value.reveal()) for each in survey.secrets
    ]


def test_twines_passwords_leave_and_a_worthless_one_is_where_no_upload_looks():
    text = (
        "[distutils]\nindex-servers =\n    pypi\n    mine\n\n# a token\n[pypi]\npassword = pypi-AgEIcHlwaS5vcmc\n\n"
        "[mine]\nrepository: https://mine.example/legacy/\nusername: alice\npassword: s3cret\n"
    )

    survey = survey_of(**{".pypirc": text})

    assert moved(survey) == [
        ("https://upload.pypi.org/legacy", "__token__", b"pypi-AgEIcHlwaS5vcmc"),
        ("https://mine.example/legacy", "alice", b"s3cret"),
    ]
    left = after(survey, ".pypirc")
    assert "pypi-AgEIcHlwaS5vcmc" not in left
    assert "s3cret" not in left
    assert left.startswith("[distutils]\nindex-servers =\n    pypi\n    mine\n\n# a token\n[pypi]\n")
    value = open_document("ini", left.encode()).value
    assert "password" not in value["pypi"]
    assert "password" not in value["mine"]
    assert set(value["pypi-before"]) == {"repository", "username", "password"}


def test_an_address_keeps_the_user_and_loses_the_password():
    survey = survey_of(**{PIP: "[global]\nindex-url = https://alice:p%40ss@i.example:8443/simple\ntimeout = 9\n"})

    assert moved(survey) == [("https://i.example:8443/simple", "alice", b"p@ss")]
    assert after(survey, PIP) == (
        "[global]\nindex-url = https://alice@i.example:8443/simple\ntimeout = 9\nkeyring-provider = subprocess\n"
    )


def test_uv_is_told_to_ask():
    survey = survey_of(**{UV: 'index-url = "https://alice:s3cret@i.example/simple"\n'})

    assert moved(survey) == [("https://i.example/simple", "alice", b"s3cret")]
    left = after(survey, UV)
    assert "s3cret" not in left
    assert 'keyring-provider = "subprocess"' in left


def test_an_index_table_of_uv_loses_its_password_where_it_is_written():
    text = (
        '# mine\nindex-url = "https://dave:pw0@k.example/simple"\nextra-index-url = ["https://carol:pw3@j.example/s"]\n'
        '[[index]]\nname = "one"  # first\nurl = "https://alice:pw1@i.example/simple"\n\n'
        "[[index]]\nname = 'two'\nurl = 'https://bob:pw2@i.example/two'\nexplicit = true\n"
    )
    survey = survey_of(**{UV: text})

    assert moved(survey) == [
        ("https://i.example/simple", "alice", b"pw1"),
        ("https://i.example/two", "bob", b"pw2"),
        ("https://j.example/s", "carol", b"pw3"),
        ("https://k.example/simple", "dave", b"pw0"),
    ]
    left = after(survey, UV)
    assert left.replace('keyring-provider = "subprocess"\n', "") == (
        '# mine\nindex-url = "https://dave@k.example/simple"\nextra-index-url = ["https://carol@j.example/s"]\n'
        '[[index]]\nname = "one"  # first\nurl = "https://alice@i.example/simple"\n\n'
        "[[index]]\nname = 'two'\nurl = 'https://bob@i.example/two'\nexplicit = true\n"
    )
    assert open_document("toml", left.encode()).value["keyring-provider"] == "subprocess"
    assert not any("password" in each for each in survey.warnings)


@pytest.mark.parametrize(
    ("path", "text", "says"),
    [
        (
            PIP,
            "[global]\nextra-index-url =\n    https://a:b@i.example/simple\n    https://c:d@j.example\n",
            "can't be moved",
        ),
        (UV, '[[index]]\nurl = "https://a:b@i.example/\\u0073imple"\n', "index[0].url has a password"),
        (UV, 'index = [{url = "https://a:b@i.e/s"}, {url = "https://a:b@i.e/s"}]\n', "index[1].url has a password"),
        (".pypirc", "[other]\nusername = a\npassword = b\n", "is for no address"),
    ],
)
def test_what_can_not_be_moved_is_told_and_left(path, text, says):
    survey = survey_of(**{path: text})

    assert survey.secrets == ()
    assert survey.files == ()
    assert any(says in each for each in survey.warnings)


@pytest.mark.parametrize(
    "netrc",
    ["machine\n  i.example\n  login a password b", "default login a password b", '#x\nmachine "i.example" password b'],
)
def test_a_netrc_is_read_as_its_readers_read_it(netrc):
    survey = survey_of(**{UV: 'index-url = "https://alice:s3cret@i.example/simple"\n', ".netrc": netrc})

    assert any("enroll --file /home/alice/.netrc --for keyring" in each for each in survey.warnings)


@pytest.mark.parametrize("netrc", ["machine i.example login a", "nothing", ""])
def test_a_netrc_without_a_password_is_not_told(netrc):
    survey = survey_of(**{UV: 'index-url = "https://alice:s3cret@i.example/simple"\n', ".netrc": netrc})

    assert not any(".netrc" in each for each in survey.warnings)


@pytest.mark.parametrize(
    "address", ["https://i.example/simple", "https://alice@i.example/simple", "https://:p@i.example"]
)
def test_an_address_without_a_whole_login_stays(address):
    assert survey_of(**{PIP: f"[global]\nindex-url = {address}\n"}).files == ()


def test_a_netrc_that_pip_prefers_is_told():
    survey = survey_of(
        **{
            UV: 'index-url = "https://alice:s3cret@i.example/simple"\n',
            ".netrc": "machine i.example login a password b\n",
        }
    )

    assert any(".netrc has a password of i.example" in each for each in survey.warnings)


def test_no_warning_quotes_a_password():
    survey = survey_of(
        **{PIP: "[global]\nextra-index-url =\n    https://a:s3cret@i.example\n    https://c:s3cret@j.x\n"}
    )

    assert not any("s3cret" in each for each in survey.warnings)


def test_an_empty_home_is_enrolled_all_the_same():
    survey = survey_of()

    assert (survey.files, survey.secrets, survey.active) == ((), (), "")
