"""Prints the credentials that minio's IAM provider finds, then stores an object: client_minio.py AWS_ENDPOINT BUCKET"""

import io
import json
import os
import sys
from urllib.parse import urlsplit

from minio import Minio
from minio.credentials import IamAwsProvider

# minio does not read the environment variable, but its parameter sets the same endpoint.
provider = IamAwsProvider(custom_endpoint=os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT"))
try:
    credentials = provider.retrieve()
except Exception as error:
    sys.exit(f"minio found no credentials: {error}")
store = Minio(endpoint=urlsplit(sys.argv[1]).netloc, secure=False, region="us-east-1", credentials=provider)
store.put_object(bucket_name=sys.argv[2], object_name="minio", data=io.BytesIO(b"x"), length=1)
print(
    json.dumps(
        {
            "AccessKeyId": credentials.access_key,
            "SecretAccessKey": credentials.secret_key,
            "Token": credentials.session_token,
        }
    )
)
