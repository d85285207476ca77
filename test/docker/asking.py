"""Requests the list of roles from inside a namespace: returns the role's name, or checks that the request is refused."""

import contextlib

import pytest

from instance import METADATA, get
from real_metadata import LIST


def role_seen_by(namespace, **options):
    return get(namespace, LIST, **options)[1]


def syn_retransmissions():
    """Returns how many SYNs the kernel has sent again in the calling thread's namespace."""
    with open("/proc/thread-self/net/netstat") as counters:
        names, values = (line.split() for line in counters if line.startswith("TcpExt:"))
    return int(values[names.index("TCPSynRetrans")])


def assert_refused(namespace, **options):
    """Checks that the request is refused at once. A dropped packet fails the check, because an SDK would wait for its timeouts.
    After a dropped SYN the kernel counts a retransmission, so the check does not depend on times, even on a slow machine."""
    with namespace:
        before = syn_retransmissions()
        with pytest.raises(OSError) as error:
            get(namespace, LIST, **options)
        assert not isinstance(error.value, TimeoutError) and syn_retransmissions() == before, "dropped, not refused"


def role_or_none(namespace, **options):
    with contextlib.suppress(OSError):
        return role_seen_by(namespace, **options)


def role_of_uid(namespace, uid, address=METADATA, port=80, source=None):
    """Returns the role that a process with this uid sees; None if there is no response."""
    url = f"http://[{address}]:{port}{LIST}" if ":" in address else f"http://{address}:{port}{LIST}"
    asked = namespace.run("setpriv", f"--reuid={uid}", "--clear-groups", "curl", "--silent", "--globoff", "--max-time", "2",
                          *(["--interface", source] if source else []), url, check=False)
    return asked.stdout if asked.returncode == 0 else None
