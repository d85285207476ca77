"""Prints the credentials that the AWS C runtime's default chain finds: client_awscrt.py"""

import json
import sys

from awscrt.auth import AwsCredentialsProvider

try:
    credentials = AwsCredentialsProvider.new_default_chain().get_credentials().result(timeout=30)
except Exception as error:
    sys.exit(f"awscrt found no credentials: {error}")
print(
    json.dumps(
        {
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key,
            "Token": credentials.session_token,
        }
    )
)
