"""Fetches a credential as an SDK does: botocore requests token, list and document."""

import time

from botocore.utils import InstanceMetadataFetcher


def fetches(base, number):
    """The milliseconds of each complete fetch."""
    # Pass an empty environment: scripts/bench sets AWS_EC2_METADATA_DISABLED, with which botocore would request nothing.
    fetcher = InstanceMetadataFetcher(timeout=5, num_attempts=1, base_url=base, env={})
    times = []
    for _ in range(number):
        begun = time.perf_counter()
        credentials = fetcher.retrieve_iam_role_credentials()
        times.append((time.perf_counter() - begun) * 1000)
        if not credentials:
            raise SystemExit(f"bench: botocore got no credentials from {base}")
    return times
