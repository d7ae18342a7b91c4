"""What `turnout check` says of the bucket and the role that Bedrock's batches need."""

from pathlib import Path

import pytest

from tests.config.files import loaded, refused

KEY = "credentials: {access_key_id: AKIDEXAMPLE, secret_access_key: s}"
BOTH = 'batch: {bucket: ours, role_arn: "arn:aws:iam::123456789012:role/b"}'


def config(*sections: str, kind: str = "bedrock") -> str:
    provider = ", ".join((f"kind: {kind}", "region: us-east-1", *sections))
    return f"providers: {{amazon: {{{provider}}}}}\nmodels: {{chat: {{targets: [{{provider: amazon, model: m}}]}}}}\n"


def test_a_bucket_a_role_and_an_access_key_load(tmp_path: Path) -> None:
    batch = loaded(tmp_path, config(KEY, BOTH), {}).settings.providers["amazon"].batch
    assert (batch.bucket, batch.role_arn, batch.prefix) == ("ours", "arn:aws:iam::123456789012:role/b", "turnout")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (config(KEY, "batch: {bucket: ours}"), "role_arn is missing: a bucket and a role go together"),
        (config(KEY, 'batch: {role_arn: "arn:aws:iam::1:role/b"}'), "bucket is missing: a bucket and a role go together"),
        (config("api_key: k", BOTH), "jobs are signed with an access key; name it in `credentials`"),
        (config("api_key: k", BOTH, kind="openai"), "only Bedrock's batches have a bucket and a role, and this is `openai`; take them out"),
    ],
    ids=["no role", "no bucket", "no access key", "not Bedrock"],
)
def test_what_they_lack_is_told_where_it_stands(tmp_path: Path, text: str, said: str) -> None:
    error = refused(tmp_path, text)
    assert f"`providers.amazon.batch`: {said}" in str(error) and "turnout.yaml:1:" in str(error)


def test_without_either_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert loaded(tmp_path, config("api_key: k"), {}).settings.providers["amazon"].batch.bucket is None
