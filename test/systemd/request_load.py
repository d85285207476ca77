"""Requests the role's credential in many threads, with a new connection for each request and the same session token.

Usage: request_load.py TOKEN ROLE FILE. Makes FILE after 50 requests, and runs until FILE is removed. Prints the
count of each status and error: {"200": 1234, "ConnectionRefusedError(111, 'Connection refused')": 1}.
"""

import collections
import json
import pathlib
import sys
import threading
import urllib.error
import urllib.request

THREADS = 8
BEFORE = 50
SECONDS = 60  # longer than any restart on a busy machine, so that only a lost request times out
token, role, running = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
request = urllib.request.Request(f"http://169.254.169.254/latest/meta-data/iam/security-credentials/{role}",
                                 headers={"X-aws-ec2-metadata-token": token})
outcomes = []
lock = threading.Lock()


def outcome():
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            json.loads(response.read())
            return str(response.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except (OSError, ValueError) as error:
        return repr(getattr(error, "reason", error))


def ask():
    while len(outcomes) < BEFORE or running.exists():
        one = outcome()
        with lock:
            # Make the file before the 50th outcome is added: a thread ends as soon as it sees 50 outcomes and no file.
            if len(outcomes) == BEFORE - 1:
                running.touch()
            outcomes.append(one)


threads = [threading.Thread(target=ask) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(collections.Counter(outcomes)))
