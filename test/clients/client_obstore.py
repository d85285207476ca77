"""Stores an object with the credential that object_store finds: client_obstore.py AWS_ENDPOINT BUCKET

object_store is the S3 library of polars and datafusion, written in Rust; obstore contains it. obstore does not expose the
credential; the stored object shows that AWS accepts it.
"""

import sys

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

store = S3Store(sys.argv[2], endpoint=sys.argv[1], client_options={"allow_http": True})
try:
    obstore.put(store, "obstore", b"x")
except BaseError as error:
    sys.exit(f"obstore stored nothing: {error}")
print("{}")
