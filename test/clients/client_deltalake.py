"""Creates a table with the credential that the AWS SDK for Rust's default chain finds: client_deltalake.py AWS_ENDPOINT BUCKET

deltalake contains the SDK. It does not expose the credential; the table shows that AWS accepts it.
"""

import sys
import uuid

from deltalake import DeltaTable, Field, Schema
from deltalake.exceptions import DeltaError
from deltalake.schema import PrimitiveType

# If AWS_ENDPOINT_URL is set, deltalake asks the SDK for a credential only with AWS_FORCE_CREDENTIAL_LOAD.
options = {"AWS_ENDPOINT_URL": sys.argv[1], "AWS_ALLOW_HTTP": "true", "AWS_FORCE_CREDENTIAL_LOAD": "true"}
schema = Schema([Field("number", PrimitiveType("integer"))])
try:
    DeltaTable.create(f"s3://{sys.argv[2]}/{uuid.uuid4()}", schema, storage_options=options)
except (DeltaError, OSError) as error:
    sys.exit(f"deltalake created no table: {error}")
print("{}")
