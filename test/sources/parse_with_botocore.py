"""Parses each file of a directory with botocore and prints a JSON object of the results; null if botocore rejects the file."""

import json
import pathlib
import shlex
import sys

import botocore.configloader
import botocore.exceptions


def name_of(header):
    if "'" in header or '"' in header:
        return " ".join(shlex.split(header))
    return " ".join(header.split())


def flat(settings):
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", text) for inner, text in value.items())
        else:
            yield key, value


def parsed(path):
    try:
        sections = botocore.configloader.raw_config_parse(str(path))
    except botocore.exceptions.ConfigParseError:
        return None
    return {name_of(header): dict(flat(settings)) for header, settings in sections.items()}


json.dump({path.name: parsed(path) for path in pathlib.Path(sys.argv[1]).iterdir()}, sys.stdout)
