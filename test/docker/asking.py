"""Requests the list of roles from inside a namespace: returns the role's name, or checks that the request is refused."""

import contextlib
import time

import pytest

from instance import METADATA, get
from real_metadata import LIST


def role_seen_by(namespace, **options):
    return get(namespace, LIST, **options)[1]


def assert_refused(namespace, within=0.5, **options):
    """Checks that the request is refused within `within` seconds. A dropped packet fails the check, because an SDK would wait for
    its timeouts. The default is below the 1 s after which TCP retransmits, so it detects even a single dropped SYN."""
    began = time.monotonic()
    with pytest.raises(OSError) as error:
        get(namespace, LIST, **options)
    assert not isinstance(error.value, TimeoutError), "dropped, not refused"
    assert time.monotonic() - began < within


def role_or_none(namespace, **options):
    with contextlib.suppress(OSError):
        return role_seen_by(namespace, **options)


def role_of_uid(namespace, uid, address=METADATA, port=80, source=None):
    """Returns the role that a process with this uid sees; None if there is no response."""
    url = f"http://[{address}]:{port}{LIST}" if ":" in address else f"http://{address}:{port}{LIST}"
    asked = namespace.run("setpriv", f"--reuid={uid}", "--clear-groups", "curl", "--silent", "--globoff", "--max-time", "2",
                          *(["--interface", source] if source else []), url, check=False)
    return asked.stdout if asked.returncode == 0 else None
