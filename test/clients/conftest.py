import os

import pytest

from aws import Aws

# The tests call boto3 in their own process too, where it must not read this machine's AWS configuration.
for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


@pytest.fixture(scope="session")
def aws(tmp_path_factory):
    with Aws(home=tmp_path_factory.mktemp("aws")) as aws:
        yield aws
