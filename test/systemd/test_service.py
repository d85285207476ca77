"""The unit on a host with systemd: what it promises, and what heals by itself."""

from instance import wait_until


def test_it_is_active_when_a_container_gets_the_role_and_says_until_when(host, aws):
    document = host.wait_until_served()
    assert aws.whose(document).endswith("assumed-role/exc_web/ec2-role-i-0123456789abcdef0")
    status = host.show("ec2-role@web", "StatusText")
    assert status == f"credential of arn:aws:iam::123456789012:role/exc_web until {document['Expiration']}"
