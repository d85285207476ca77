"""Makes a certificate authority and a certificate for 127.0.0.1, for one run."""

import subprocess


def make(directory):
    """Returns the files of authority, certificate and key."""
    authority, authority_key, certificate, key = (
        f"{directory}/{name}.pem" for name in ("authority", "authority-key", "certificate", "key")
    )
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]

    def run(*options):
        subprocess.run([*new, *options], check=True, stderr=subprocess.DEVNULL)

    run("-subj", "/CN=bench authority", "-keyout", authority_key, "-out", authority)
    of_address = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
    run("-subj", "/CN=bench", *of_address, "-CA", authority, "-CAkey", authority_key, "-keyout", key, "-out", certificate)
    return authority, certificate, key
