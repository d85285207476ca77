"""The README's blocks, as they stand in it."""

import re

from instance import REPOSITORY

TEXT = (REPOSITORY / "README.md").read_text()


def block(heading, language, number=0):
    section = re.search(rf"^#{{2,}} {re.escape(heading)}\n(.*?)(?=^#{{2,}} |\Z)", TEXT, re.M | re.S)[1]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)[number]
