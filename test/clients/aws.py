"""Runs moto in the place of AWS, with authorization checks, and creates a host user and the role that this user may assume."""

import json
import sys

import boto3

from ec2_role import ROLE_NAME
from program import Program

BUCKET = "web"

# Number of calls that `prepare` makes. moto must accept these calls without authorization, because they create the first user.
UNCHECKED_CALLS = 6


class Aws(Program):
    """After `prepare`, moto checks signature and policies of every call."""

    def __init__(self, home):
        super().__init__(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            {"HOME": str(home), "INITIAL_NO_AUTH_ACTION_COUNT": str(UNCHECKED_CALLS)},
        )

    def start(self):
        self.endpoint = self.wait_for(r"Running on (http://\S+)")[1]
        self.host_keys = prepare(self.endpoint)


def prepare(endpoint):
    """Creates the host user, the role and a bucket that the role may use. Returns the host's keys as variables."""
    nobody = boto3.Session(aws_access_key_id="nobody", aws_secret_access_key="nothing", region_name="us-east-1")
    iam = nobody.client("iam", endpoint_url=endpoint)
    iam.create_user(UserName="host")
    iam.put_user_policy(UserName="host", PolicyName="host", PolicyDocument=allow("sts:AssumeRole", Resource="*"))
    key = iam.create_access_key(UserName="host")["AccessKey"]
    trust = allow("sts:AssumeRole", Principal={"AWS": "arn:aws:iam::123456789012:user/host"})
    iam.create_role(RoleName=ROLE_NAME, AssumeRolePolicyDocument=trust)
    bucket = f"arn:aws:s3:::{BUCKET}"
    policy = allow(["s3:PutObject", "s3:GetObject", "s3:ListBucket"], Resource=[bucket, f"{bucket}/*"])
    iam.put_role_policy(RoleName=ROLE_NAME, PolicyName=ROLE_NAME, PolicyDocument=policy)
    nobody.client("s3", endpoint_url=endpoint).create_bucket(Bucket=BUCKET)
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def allow(action, **statement):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, **statement}]})
