"""What an SDK does to get a credential: token, list and document, by botocore."""

import time

from botocore.utils import InstanceMetadataFetcher


def fetches(base, number):
    """The milliseconds of each whole fetch."""
    # With an environment of its own: the one of this process says that no SDK may look for metadata.
    fetcher = InstanceMetadataFetcher(timeout=5, num_attempts=1, base_url=base, env={})
    times = []
    for _ in range(number):
        begun = time.perf_counter()
        credentials = fetcher.retrieve_iam_role_credentials()
        times.append((time.perf_counter() - begun) * 1000)
        if not credentials:
            raise SystemExit(f"bench: botocore got no credentials from {base}")
    return times
