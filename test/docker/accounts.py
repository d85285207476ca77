"""Adds users for a test. Only commands that are run with the prefix `host.within` see them in /etc/passwd and /etc/subuid."""

import pathlib

UID = 61000
# Subordinate uids of the user `app`. /etc/subuid lists 200000 to 265535 under the user's name, and a range from 400000 under the
# user's uid. No uid in OTHERS belongs to `app`.
SUBUIDS = (200000, 265535, 400000)
OTHERS = (61001, 199999, 300000)


def add_accounts(host, directory):
    passwd, subuid = directory / "passwd", directory / "subuid"
    passwd.write_text(pathlib.Path("/etc/passwd").read_text() + f"app:x:{UID}:{UID}::/:/bin/sh\nother:x:61001:61001::/:/bin/sh\nCORP\\nina:x:61003:61003::/:/bin/sh\n")
    subuid.write_text(f"app:200000:65536\nother:300000:65536\n{UID}:400000:1000\napp:0:10\napp:x:1\nCORP\\nina:500000:65536\n")
    host.within = ("unshare", "--mount", "sh", "-euc",
                   f'touch /etc/subuid; mount --bind {passwd} /etc/passwd; mount --bind {subuid} /etc/subuid; exec "$@"', "sh")
    return subuid
