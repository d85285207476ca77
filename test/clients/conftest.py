import os

import pytest

from aws import Aws

# Remove this machine's AWS variables, because the process of the tests itself calls boto3 (aws.py), which would read them.
for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


@pytest.fixture(scope="session")
def aws(tmp_path_factory):
    with Aws(home=tmp_path_factory.mktemp("aws")) as aws:
        yield aws
