"""The part of AWS that these tests need: moto's STS, S3 and CloudWatch with IAM checks, in the namespace `aws`."""

import json
import os
import subprocess
import sys
import tempfile

import boto3
import botocore.config

from instance import AWS_ADDRESS, clean_environment, wait_until
from real_metadata import HOST_ROLE

PORT = 5000
ENDPOINT = f"http://{AWS_ADDRESS}:{PORT}"
ACCOUNT = "123456789012"
BUCKET = "logs"

# The actions that each role may call. exc_web, fluentd and php are roles from a talk of 2015 (test_talk.py). php has the same
# action twice, because AWS checks the prefix `cloudwatch` and moto checks `monitoring`.
POLICIES = {
    HOST_ROLE: ["sts:AssumeRole"],
    "exc_web": ["s3:ListAllMyBuckets"],
    "fluentd": ["s3:PutObject"],
    "php": ["cloudwatch:PutMetricData", "monitoring:PutMetricData"],
    **{f"role-{n}": ["s3:ListAllMyBuckets"] for n in range(10)},
}


def arn(role):
    return f"arn:aws:iam::{ACCOUNT}:role/{role}"


class Aws:
    def __init__(self, instance):
        self.instance = instance
        set_up = [self._bucket, *(step for role in POLICIES for step in self._role(role)), self._host_session]
        self._log = tempfile.TemporaryFile()
        with instance.aws:
            self._server = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "moto.server", "-H", AWS_ADDRESS, "-p", str(PORT)],
                stdout=subprocess.DEVNULL, stderr=self._log,
                # After the calls of the set-up, moto checks signature, session and policy of every call.
                env=clean_environment(INITIAL_NO_AUTH_ACTION_COUNT=str(len(set_up))))
        try:
            wait_until(self._listens, what="moto's first answer")
            for step in set_up:
                with instance.aws:
                    step()
        except BaseException:
            self.close()
            raise

    def _listens(self):
        import socket
        with self.instance.aws:
            try:
                socket.create_connection((AWS_ADDRESS, PORT), 1).close()
                return True
            except OSError:
                return False

    def client(self, service, key="set-up", secret="set-up", token=None):
        return boto3.client(service, region_name="us-east-1", endpoint_url=ENDPOINT, aws_access_key_id=key,
                            aws_secret_access_key=secret, aws_session_token=token,
                            config=botocore.config.Config(retries={"total_max_attempts": 1}))

    def _bucket(self):
        self.client("s3").create_bucket(Bucket=BUCKET)

    def _role(self, role):
        trust = {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": POLICIES[role], "Resource": "*"}]}
        return [
            lambda: self.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust)),
            lambda: self.client("iam").put_role_policy(RoleName=role, PolicyName="may", PolicyDocument=json.dumps(policy)),
        ]

    def _host_session(self):
        """Makes the metadata service return a session of the host's role, which may call AssumeRole."""
        session = self.client("sts").assume_role(RoleArn=arn(HOST_ROLE), RoleSessionName="i-0123456789abcdef0")
        credential = session["Credentials"]
        self.instance.real_metadata.credential.update(
            AccessKeyId=credential["AccessKeyId"], SecretAccessKey=credential["SecretAccessKey"],
            Token=credential["SessionToken"], Expiration=credential["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ"))

    def whose(self, document):
        """The ARN of the caller that STS returns for the keys of a credential document."""
        with self.instance.aws:
            sts = self.client("sts", document["AccessKeyId"], document["SecretAccessKey"], document["Token"])
            return sts.get_caller_identity()["Arn"]

    def calls_from(self, address):
        """The number of requests from this address so far."""
        log = os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0).decode()
        return sum(line.startswith(f"{address} ") for line in log.splitlines())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._server.terminate()
        self._server.wait(10)
        self._log.close()
