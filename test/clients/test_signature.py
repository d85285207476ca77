"""Special characters in every option reach STS unchanged, and AssumeRole's signature is the one that botocore computes."""

import re
from urllib.parse import parse_qsl

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from ec2_role import ROLE_ARN, Ec2Role
from recording_sts import RecordingSts

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY = "+/odd/+secret/+=key//0123456789+/abcdefgh"
SESSION_TOKEN = "FwoGZXIvYXdzE+/=\"%20&a=b;~*'()!tail=="

POLICY = """{"Version": "2012-10-17",
\t"Statement": [{"Sid": "späße 🚀 a+b=c&d%20", "Effect": "Allow", "Action": "s3:*"}]}"""
POLICY_ARN = "arn:aws:iam::123456789012:policy"
ASSUME_ROLE = {"Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": ROLE_ARN}

# For each test case: its name, the options of ec2-role, and the parameters that these options must add to AssumeRole.
ODD_OPTIONS = {
    "policy": (["--policy", POLICY], {"Policy": POLICY}),
    "external id": (["--external-id", "a+b=c,d.e@f:g/h-i_j"], {"ExternalId": "a+b=c,d.e@f:g/h-i_j"}),
    "session name": (["--role-session-name", "a+b=c,d.e@f-g_h"], {"RoleSessionName": "a+b=c,d.e@f-g_h"}),
    "source identity": (["--source-identity", "a+b=c,d.e@f-g_h"], {"SourceIdentity": "a+b=c,d.e@f-g_h"}),
    "duration": (["--duration-seconds", "900"], {"DurationSeconds": "900"}),
    "tags": (
        [
            *("--tags", "a+b/c:d=e=f&g+h /%41~*", "--tags", "grün=日本 é", "--tags", "empty="),
            *("--transitive-tag-keys", "grün", "--transitive-tag-keys", "a+b/c:d"),
        ],
        {
            "Tags.member.1.Key": "a+b/c:d",
            "Tags.member.1.Value": "e=f&g+h /%41~*",
            "Tags.member.2.Key": "grün",
            "Tags.member.2.Value": "日本 é",
            "Tags.member.3.Key": "empty",
            "Tags.member.3.Value": "",
            "TransitiveTagKeys.member.1": "grün",
            "TransitiveTagKeys.member.2": "a+b/c:d",
        },
    ),
    "policy ARNs": (
        ["--policy-arns", f"{POLICY_ARN}/a+b=c,d.e@f_g", "--policy-arns", f"{POLICY_ARN}/path/B"],
        {
            "PolicyArns.member.1.arn": f"{POLICY_ARN}/a+b=c,d.e@f_g",
            "PolicyArns.member.2.arn": f"{POLICY_ARN}/path/B",
        },
    ),
}
EVERY_OPTION = (
    [part for options, _ in ODD_OPTIONS.values() for part in options],
    {name: value for _, parameters in ODD_OPTIONS.values() for name, value in parameters.items()},
)


@pytest.mark.parametrize("token", [None, SESSION_TOKEN], ids=["long-term keys", "session token"])
@pytest.mark.parametrize("options, expected", [*ODD_OPTIONS.values(), EVERY_OPTION], ids=[*ODD_OPTIONS, "every option"])
def test_every_option_arrives_as_written_and_is_signed(options, expected, token):
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    if token:
        keys["AWS_SESSION_TOKEN"] = token
    method, path, headers, body = assume_role_request(options, keys, region="eu-central-1")

    parameters = dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True))
    assert parameters == parameters | ASSUME_ROLE | expected
    assert headers["X-Amz-Security-Token"] == token
    assert_is_signed(method, path, headers, body, token, region="eu-central-1")


def test_policy_file_reaches_sts_unchanged(tmp_path):
    (tmp_path / "policy.json").write_text(POLICY)
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    _, _, _, body = assume_role_request(["--policy", f"file://{tmp_path}/policy.json"], keys, region="eu-central-1")

    assert dict(parse_qsl(body.decode("ascii")))["Policy"] == POLICY


def assume_role_request(options, keys, region):
    with RecordingSts() as sts:
        environment = {**keys, "AWS_REGION": region}
        with Ec2Role("--endpoint-url", sts.endpoint, *options, environment=environment) as ec2_role:
            ec2_role.wait_for_credential()
        (request,) = sts.requests
    return request


def assert_is_signed(method, path, headers, body, token, region):
    authorization = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=(?P<credential>\S+), ?"
        r"SignedHeaders=(?P<headers>\S+), ?Signature=(?P<signature>[0-9a-f]{64})",
        headers["Authorization"],
    )
    signed = authorization["headers"].split(";")
    date = headers["X-Amz-Date"]
    assert {"host", "x-amz-date"} <= set(signed)
    assert token is None or "x-amz-security-token" in signed
    assert authorization["credential"] == f"{ACCESS_KEY}/{date[:8]}/{region}/sts/aws4_request"

    request = AWSRequest(method, f"http://{headers['Host']}{path}", {name: headers[name] for name in signed}, body)
    request.context["timestamp"] = date
    signer = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY, token), "sts", region)
    # Sign the headers that ec2-role signed; botocore would choose others.
    signer.headers_to_sign = lambda request: request.headers
    expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    assert authorization["signature"] == expected
