"""Extracts the code blocks of README.md and of the pages in scripts/, so that tests can run them unchanged."""

import re

from instance import REPOSITORY

OPERATING = "scripts/README.md"


def block(heading, language, number=0, page="README.md"):
    text = (REPOSITORY / page).read_text()
    section = re.search(rf"^#{{2,}} {re.escape(heading)}\n(.*?)(?=^#{{2,}} |\Z)", text, re.M | re.S)[1]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)[number]
