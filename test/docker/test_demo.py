"""Tests scripts/demo with settings in a user's home directory. It is in test/docker, because that runs after scripts/build --all."""

import os
import pathlib
import subprocess

from instance import REPOSITORY, clean_environment


def test_demo_ignores_the_users_settings_of_curl_and_aws(tmp_path):
    """With the user's proxy, curl would send the demo's requests off the machine."""
    (tmp_path / ".curlrc").write_text("proxy = http://127.0.0.1:1\n")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text("[default]\nca_bundle = /nowhere/ca.pem\n")
    tools = {name: os.environ.get(name, str(pathlib.Path.home() / directory)) for name, directory in (("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup"))}
    shown = subprocess.run([REPOSITORY / "scripts/demo"], capture_output=True, text=True, env=clean_environment(HOME=str(tmp_path), **tools))
    assert shown.returncode == 0 and ":assumed-role/exc_web/" in shown.stdout, shown.stderr
