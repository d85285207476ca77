"""Prints the credentials that the package ec2-metadata reads: client_ec2_metadata.py"""

import json
import os
import sys

from ec2_metadata import EC2Metadata

metadata = EC2Metadata()
# The package does not read this variable, so set its two attributes to the endpoint.
if endpoint := os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT"):
    metadata.service_url = f"{endpoint}/latest/"
    metadata.metadata_url = f"{endpoint}/latest/meta-data/"
try:
    document = metadata.iam_security_credentials
except Exception as error:
    sys.exit(f"ec2-metadata found no credentials: {error}")
print(json.dumps(document))
