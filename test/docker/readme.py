"""The code blocks of the README and of the pages beside the scripts, for tests that run them as they stand."""

import re

from instance import REPOSITORY

OPERATING = "scripts/README.md"


def block(heading, language, number=0, page="README.md"):
    text = (REPOSITORY / page).read_text()
    section = re.search(rf"^#{{2,}} {re.escape(heading)}\n(.*?)(?=^#{{2,}} |\Z)", text, re.M | re.S)[1]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)[number]
