"""Runs each cell of the table engine × firewall in scripts/README.md, with the real engine and the real firewall."""

import itertools

import pytest

from firewalls import CELLS, ENGINES, FIREWALLS, FirewallHost, rows
from instance import wait_until
from real_metadata import HOST_ROLE

ROWS = rows()


@pytest.fixture(scope="module", params=ROWS, ids=" + ".join)
def row(request, engine, aws):
    engine_name, firewall = request.param
    host = FirewallHost(engine, engine_name, firewall)
    seen = {}
    yield host, ROWS[request.param], seen
    host.remove()
    print(f"\n| {engine_name} | {firewall} | {' | '.join(seen.get(cell, '') for cell in CELLS)} |")


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.__name__)
def test_container_sees_what_the_firewall_table_says(row, cell):
    host, expected, seen = row
    try:
        seen[cell] = cell(host)
        assert seen[cell] == expected[CELLS.index(cell)]
    finally:
        host.hook()
    wait_until(lambda: "exc_web" in host.engine.log(), seconds=20, what="the role in the log of the container that polls")
    assert HOST_ROLE not in host.engine.log()


def test_hook_that_is_added_while_firewalld_starts_stays(engine, aws):
    """Suspends firewalld for a second (SIGSTOP) after systemd counts it as started, but before it deletes foreign rules."""
    with FirewallHost(engine, "Docker", "firewalld") as host:
        host.run("sh", "-euc", "systemctl restart firewalld; systemctl kill --signal STOP firewalld; "
                 "(sleep 1; systemctl kill --signal CONT firewalld) & ec2-role-hook add --bridge er-+ --missing-ok; wait; firewall-cmd --state")
        host.run("ec2-role-hook", "status", "--bridge", "er-+")


def test_the_table_has_each_firewall_for_each_engine():
    assert set(ROWS) == set(itertools.product(ENGINES, FIREWALLS))
