"""Stores an object with the credentials that the AWS SDK for C++'s default chain finds: client_pyarrow.py AWS_ENDPOINT BUCKET

pyarrow does not expose the credentials; the stored object shows that AWS accepts them.
"""

import sys
from urllib.parse import urlsplit

from pyarrow.fs import S3FileSystem

store = S3FileSystem(region="us-east-1", scheme="http", endpoint_override=urlsplit(sys.argv[1]).netloc)
try:
    with store.open_output_stream(f"{sys.argv[2]}/pyarrow") as stream:
        stream.write(b"x")
except OSError as error:
    sys.exit(f"pyarrow stored nothing: {error}")
print("{}")
