"""Claude at a cloud: which credential is moved, what lies in its place, what is refused (needs root)."""

import json

import pytest
from botocore.configloader import raw_config_parse

from agent_broker.enroll.claude import ClaudeRecipe
from agent_broker.enroll.exported import Exports
from agent_broker.errors import MisuseError
from agent_broker.identity.registry import load_registry
from agent_broker.inject.google_tokens import checked_source
from agent_broker.vault.secret import Secret
from tests.fakes.cloud_logins import ADC, PROJECT, aws_keys, service_account, user_login
from tests.fakes.enroll_world import API_KEY, UID, URL, EnrollWorld

BEDROCK = {"CLAUDE_CODE_USE_BEDROCK": "1", "AWS_REGION": "eu-central-1"}
VERTEX = {"CLAUDE_CODE_USE_VERTEX": "1", "CLOUD_ML_REGION": "europe-west1", "ANTHROPIC_VERTEX_PROJECT_ID": PROJECT}
PHANTOM_OF_THE_FAKE = "abp-"
OTHER = f"[work]\naws_access_key_id = AKIAOTHEROTHEROTHER1\naws_secret_access_key = {'other' * 8}\n"


@pytest.fixture
def world():
    world = EnrollWorld()
    world.recipe = agreed(world)
    yield world
    world.close()


def agreed(world, *, move=True, decoys=()):
    return ClaudeRecipe(managed_settings=world.root / "managed-settings.json", exports=Exports(move, decoys))


def settings(world, env, **more):
    world.make(world.settings, json.dumps({"model": "opus", "env": {"EDITOR": "vi", **env}, **more}, indent=3))


def profile_text(name, pair, extra=""):
    return f"# mine\n[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in pair.items()) + extra


def put(world, path, text):
    folder = world.home
    for part in path.split("/")[:-1]:
        folder /= part
        if not folder.exists():
            world.make_folder(folder)
    return world.make(world.home / path, text)


def env_of(world):
    return json.loads(world.settings.read_text())["env"]


def nowhere(world, *values):
    return not [path for path, facts in world.snapshot().items() for each in values if each.encode() in facts.data]


def record(world, name):
    return world.store.records[f"claude/{UID}/{name}"]


def test_keys_in_the_settings(world):
    pair = aws_keys()
    env = {"AWS_ACCESS_KEY_ID": pair["aws_access_key_id"], "AWS_SECRET_ACCESS_KEY": pair["aws_secret_access_key"]}
    settings(world, {**BEDROCK, **env}, awsCredentialExport="print-keys", awsAuthRefresh="sso")
    before = world.snapshot()
    plan = world.plan()
    assert plan.active == f"claude/{UID}/aws-keys"
    world.apply(plan)
    assert (record(world, "aws-keys").kind, json.loads(record(world, "aws-keys").content)) == ("aws-keys", pair)
    assert record(world, "aws-keys").attributes == {"regions": "eu-central-1"}
    wired = env_of(world)
    assert wired.pop("AWS_BEARER_TOKEN_BEDROCK").startswith(PHANTOM_OF_THE_FAKE)
    assert wired == {"EDITOR": "vi", **BEDROCK, "ANTHROPIC_BEDROCK_BASE_URL": URL}
    assert set(json.loads(world.settings.read_text())) == {"model", "env"}
    assert nowhere(world, pair["aws_secret_access_key"])
    world.unenroll()
    assert world.snapshot() == before


def test_a_bedrock_api_key_wins_over_a_pair_and_takes_the_profile_s_region(world):
    settings(world, {"CLAUDE_CODE_USE_BEDROCK": "true", "AWS_BEARER_TOKEN_BEDROCK": "ABSK" + "x1" * 40})
    put(world, ".aws/config", "[default]\nregion = ap-southeast-2\n")
    world.enroll()
    assert record(world, "bedrock-api-key").attributes == {"regions": "ap-southeast-2"}
    assert env_of(world)["AWS_REGION"] == "ap-southeast-2"
    assert nowhere(world, "ABSK" + "x1" * 40)


@pytest.mark.parametrize("session", [False, True])
def test_a_profile_s_keys_are_moved_and_a_decoy_pair_lies_there(world, session):
    pair = aws_keys(session=session)
    settings(world, {"CLAUDE_CODE_USE_BEDROCK": "1"})
    put(world, ".aws/credentials", profile_text("default", pair, "region = eu-west-1\n"))
    before = world.snapshot()
    plan = world.plan()
    assert any("temporary" in warning for warning in plan.warnings) == session
    world.apply(plan)
    assert json.loads(record(world, "aws-profile").content) == pair
    assert record(world, "aws-profile").attributes == {"regions": "eu-west-1"}
    now = raw_config_parse(str(world.home / ".aws/credentials"))["default"]
    assert set(now) == {*pair, "region"}
    assert not set(pair.values()) & set(now.values())
    assert now["aws_access_key_id"][:4] == pair["aws_access_key_id"][:4]
    (enrolled,) = load_registry(world.site().registry_dir)
    assert f"{world.home}/.aws/credentials" in [each.path for each in enrolled.decoys]
    assert nowhere(world, *(value for name, value in pair.items() if name != "aws_access_key_id"))
    world.unenroll()
    assert world.snapshot() == before


def test_other_profiles_stay_as_they_are_and_their_file_is_shared_with_those_who_read_them(world):
    pair = aws_keys()
    settings(world, {**BEDROCK, "AWS_PROFILE": "agent"})
    put(world, ".aws/credentials", OTHER + profile_text("agent", pair))
    before = world.snapshot()
    world.enroll()
    text = (world.home / ".aws/credentials").read_text()
    assert text.startswith(OTHER)
    assert pair["aws_secret_access_key"] not in text
    (enrolled,) = load_registry(world.site().registry_dir)
    assert {each.path: each.shared for each in enrolled.decoys} == {
        str(world.credentials): False,
        f"{world.home}/.aws/credentials": True,  # the aws command still reads the other profile
    }
    world.unenroll()
    assert world.snapshot() == before


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("sso_session = corp", "SSO"),
        ("role_arn = arn:aws:iam::1:role/x", "role"),
        ("credential_process = /bin/keys", "command"),
        ("aws_access_key_id = AKIAIOSFODNN7EXAMPLE", "holds keys itself"),
    ],
)
def test_what_has_no_keys_of_its_own_is_refused_with_what_to_do(world, line, why):
    settings(world, {**BEDROCK, "AWS_PROFILE": "corp"})
    put(world, ".aws/config", f"[profile corp]\n{line}\n")
    before = world.snapshot()
    with pytest.raises(MisuseError, match=why) as refusal:
        world.plan()
    assert refusal.value.next_step
    assert world.snapshot() == before


def test_a_command_s_output_can_not_be_moved(world):
    settings(world, BEDROCK, awsCredentialExport="print-keys")
    with pytest.raises(MisuseError, match="awsCredentialExport") as refusal:
        world.plan()
    for way in ("AWS_BEARER_TOKEN_BEDROCK", "AWS_PROFILE", "--profiles"):
        assert way in refusal.value.next_step


def test_files_that_other_programs_read_are_not_opened_before_their_owner_agreed(world):
    world.recipe = agreed(world, move=False)
    before = {}
    for env, path, text in (
        (BEDROCK, ".aws/credentials", profile_text("default", aws_keys())),
        (VERTEX, ADC, json.dumps(user_login())),
    ):
        settings(world, env)
        put(world, path, text)
        before = world.snapshot()
        with pytest.raises(MisuseError, match="read too") as refusal:
            world.plan()
        assert "--profiles" in refusal.value.next_step
        assert world.snapshot()[path] == before[path]  # nor was it read: the time of access is the same


def test_a_decoy_of_another_enrolment_is_not_taken_for_a_login(world):
    settings(world, VERTEX)
    put(world, ADC, json.dumps(user_login()))
    world.recipe = agreed(world, decoys=(f"{world.home}/{ADC}",))
    with pytest.raises(MisuseError, match="holds a decoy") as refusal:
        world.plan()
    assert "GOOGLE_APPLICATION_CREDENTIALS" in refusal.value.next_step


@pytest.mark.parametrize(
    ("make", "kind", "member"),
    [(user_login, "google-adc", "refresh_token"), (service_account, "google-service-account", "private_key")],
)
@pytest.mark.parametrize("named", [False, True])
def test_a_login_at_google(world, make, kind, member, named):
    login = {**make(), "quota_project_id": "billed-project"}
    path = "keys/vertex.json" if named else ADC
    env = {"GOOGLE_APPLICATION_CREDENTIALS": f"{world.home}/{path}"} if named else {}
    settings(world, {**VERTEX, **env, "VERTEX_REGION_CLAUDE_HAIKU_4_5": "global", "ANTHROPIC_API_KEY": API_KEY})
    put(world, path, json.dumps(login, indent=2))
    before = world.snapshot()
    plan = world.plan()
    assert plan.active == f"claude/{UID}/google-adc"
    assert any("only kept: API key" in warning for warning in plan.warnings)
    world.apply(plan)
    stored = record(world, "google-adc")
    assert (stored.kind, json.loads(stored.content)) == (kind, login)
    assert stored.attributes == {
        "project": PROJECT,
        "regions": "europe-west1 global",
        "account_id": "billed-project",
    }
    decoy = json.loads((world.home / path).read_text())
    assert decoy[member] != login[member]
    changed = {name for name in login if decoy[name] != login[name]}
    assert changed == ({member, "private_key_id"} if member == "private_key" else {member})
    checked_source(kind, Secret(json.dumps(decoy).encode()))
    wired = env_of(world)
    assert wired["ANTHROPIC_AUTH_TOKEN"].startswith(PHANTOM_OF_THE_FAKE)
    assert (wired["ANTHROPIC_VERTEX_BASE_URL"], wired["CLAUDE_CODE_SKIP_VERTEX_AUTH"]) == (f"{URL}/v1", "1")
    assert "ANTHROPIC_API_KEY" not in wired
    assert "ANTHROPIC_BASE_URL" not in wired
    assert nowhere(world, json.dumps(login[member])[1:-1], API_KEY)
    (enrolled,) = load_registry(world.site().registry_dir)
    assert {each.path for each in enrolled.decoys} == {str(world.credentials), f"{world.home}/{path}"}
    world.unenroll()
    assert world.snapshot() == before


def test_the_project_comes_from_the_key_if_nothing_else_says_it(world):
    settings(world, {"CLAUDE_CODE_USE_VERTEX": "1"})
    put(world, ADC, json.dumps(service_account()))
    world.enroll()
    assert record(world, "google-adc").attributes == {"project": PROJECT, "regions": "us-east5"}
    assert env_of(world)["ANTHROPIC_VERTEX_PROJECT_ID"] == PROJECT


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"type": "external_account", "audience": "x"}, "from another system"),
        ({"type": "impersonated_service_account"}, "impersonates"),
        ({"type": "authorized_user", "client_id": "x", "refresh_token": "y"}, "no client_secret"),
        ({"type": "authorized_user", "client_id": "x", "client_secret": "z"}, "no refresh_token"),
        ({}, "no kind that is known"),
        (None, "there is no"),
    ],
)
def test_what_is_no_login_that_could_be_moved_is_refused(world, content, why):
    settings(world, VERTEX)
    if content is not None:
        put(world, ADC, json.dumps(content))
    before = world.snapshot()
    with pytest.raises(MisuseError, match=why):
        world.plan()
    assert [(each, facts.data) for each, facts in world.snapshot().items()] == [
        (each, facts.data) for each, facts in before.items()
    ]


@pytest.mark.parametrize(
    "path", ["/etc/vertex.json", "keys/vertex.json", "{home}/../other/key.json", "{home}/./k.json"]
)
def test_a_file_outside_the_home_is_refused(world, path):
    settings(world, {**VERTEX, "GOOGLE_APPLICATION_CREDENTIALS": path.format(home=world.home)})
    with pytest.raises(MisuseError, match="not in the user's home"):
        world.plan()


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"CLAUDE_CODE_USE_FOUNDRY": "1"}, "not supported"),
        ({"CLAUDE_CODE_USE_MANTLE": "true"}, "not supported"),
        ({**VERTEX, "CLAUDE_CODE_SKIP_VERTEX_AUTH": "1"}, "a gateway has the login"),
        ({**BEDROCK, "CLAUDE_CODE_SKIP_BEDROCK_AUTH": "1"}, "a gateway has the login"),
    ],
)
def test_another_cloud_or_a_gateway_is_refused(world, env, why):
    settings(world, {**env, "ANTHROPIC_API_KEY": API_KEY})
    put(world, ".aws/credentials", profile_text("default", aws_keys()))
    with pytest.raises(MisuseError, match=why):
        world.plan()


@pytest.mark.parametrize("region", ["eu-west-1.evil.example/", "EU", "a b/c", "us-east-1@evil.example"])
def test_what_has_not_the_form_of_a_region_or_project_is_refused(world, region):
    settings(world, {**BEDROCK, "AWS_REGION": region, "AWS_BEARER_TOKEN_BEDROCK": "ABSK" + "x1" * 40})
    with pytest.raises(MisuseError, match="form of one"):
        world.plan()
    put(world, ADC, json.dumps(user_login()))
    settings(world, {**VERTEX, "ANTHROPIC_VERTEX_PROJECT_ID": "../x"})
    with pytest.raises(MisuseError, match="which project"):
        world.plan()


def test_what_a_shell_exports_besides_is_named(world):
    settings(
        world, {**BEDROCK, "AWS_BEARER_TOKEN_BEDROCK": "ABSK" + "x1" * 40, "ANTHROPIC_BEDROCK_BASE_URL": "https://x"}
    )
    world.make(world.home / ".bashrc", "export AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI\n")
    warnings = world.plan().warnings
    assert any(".bashrc:1: AWS_SECRET_ACCESS_KEY" in each for each in warnings)
    assert any("[upstream.bedrock]" in each for each in warnings)
    assert not any("wJalr" in each for each in warnings)


def test_a_switch_that_is_off_is_none(world):
    settings(world, {"CLAUDE_CODE_USE_VERTEX": "0", "ANTHROPIC_API_KEY": API_KEY})
    world.enroll()
    assert "ANTHROPIC_BASE_URL" in env_of(world)
