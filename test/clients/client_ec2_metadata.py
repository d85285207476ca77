"""Prints the credentials that the package ec2-metadata reads: client_ec2_metadata.py"""

import json
import os
import sys

from ec2_metadata import EC2Metadata

metadata = EC2Metadata()
# The package has its address compiled in, as attributes.
metadata.service_url = os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] + "/latest/"
metadata.metadata_url = metadata.service_url + "meta-data/"
try:
    document = metadata.iam_security_credentials
except Exception as error:
    sys.exit(f"ec2-metadata found no credentials: {error}")
print(json.dumps(document))
