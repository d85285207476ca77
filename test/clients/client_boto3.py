"""Prints the credentials that boto3's default chain finds, and the ARN that STS returns: client_boto3.py AWS_ENDPOINT"""

import json
import sys

import boto3

session = boto3.Session(region_name="us-east-1")
credentials = session.get_credentials()
if credentials is None:
    sys.exit("boto3 found no credentials")
frozen = credentials.get_frozen_credentials()
caller = session.client("sts", endpoint_url=sys.argv[1]).get_caller_identity()
print(
    json.dumps(
        {
            "AccessKeyId": frozen.access_key,
            "SecretAccessKey": frozen.secret_key,
            "Token": frozen.token,
            "Arn": caller["Arn"],
        }
    )
)
