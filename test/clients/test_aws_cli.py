"""Checks with the aws CLI where its keys come from, what they permit, and that ec2-role works as its credential_process."""

import json

from aws import BUCKET
from clients import Client, aws_cli
from ec2_role import BINARY, ROLE_ARN, ROLE_NAME, Ec2Role, fetch_document

TO_AWS = ["--region", "us-east-1", "--endpoint-url", "{aws}"]


def test_aws_cli_lists_iam_role_as_the_source_of_its_keys(aws, tmp_path):
    with serving(aws) as ec2_role:
        result = run_with(ec2_role, aws, tmp_path, "configure", "list")
        access_key = json.loads(fetch_document(ec2_role.endpoint))["AccessKeyId"]

    rows = {row.split()[0]: row.split()[1:] for row in result.stdout.splitlines() if row.split()}
    assert rows["access_key"] == ["*" * 16 + access_key[-4:], "iam-role"]


def test_aws_cli_has_the_roles_permissions_and_not_the_hosts(aws, tmp_path):
    with serving(aws) as ec2_role:
        role_may = ["s3api", "put-object", "--bucket", BUCKET, "--key", "aws-cli", *TO_AWS]
        host_may = ["sts", "assume-role", "--role-arn", ROLE_ARN, "--role-session-name", "container", *TO_AWS]

        assert run_with(ec2_role, aws, tmp_path, *role_may).returncode == 0
        assert "(AccessDenied)" in run_with(ec2_role, aws, tmp_path, *host_may).stderr


def test_aws_cli_uses_ec2_role_as_its_credential_process(aws, tmp_path):
    (tmp_path / "credentials").write_text(
        f"[host]\naws_access_key_id = {aws.host_keys['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {aws.host_keys['AWS_SECRET_ACCESS_KEY']}\n"
    )
    (tmp_path / "config").write_text(
        "[default]\nregion = us-east-1\n"
        f"credential_process = {BINARY} --credential-process --profile host --endpoint-url {aws.endpoint} {ROLE_ARN}\n"
    )
    files = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    result = Client("aws", aws_cli("sts", "get-caller-identity", *TO_AWS), []).run(aws, tmp_path, files)

    assert result.returncode == 0, result.stderr
    assert f":assumed-role/{ROLE_NAME}/" in json.loads(result.stdout)["Arn"]


def serving(aws):
    return Ec2Role("--endpoint-url", aws.endpoint, environment=aws.host_keys)


def run_with(ec2_role, aws, home, *arguments):
    ec2_role.wait_for_credential()
    client = Client("aws", aws_cli(*arguments), [])
    return client.run(aws, home, {client.endpoint_variable: ec2_role.endpoint})
