"""One role for each container: fluentd and php, on two networks that ec2-role-network made."""

import concurrent.futures
import itertools
import re

import pytest

from containers import boto3, curl, document, metadata, role_name, start_client
from instance import INSTANCE_ADDRESS, METADATA, REPOSITORY, wait_until
from real_metadata import HOST_ROLE, LIST
from role_networks import create, gateway_of, network
from sts import BUCKET, ENDPOINT, arn

pytestmark = pytest.mark.usefixtures("client_image", "ec2_role_image", "aws")

PUT_OBJECT = f"""
import boto3
boto3.client("s3", endpoint_url="{ENDPOINT}").put_object(Bucket="{BUCKET}", Key="log", Body=b"line")
print("done")
"""
PUT_METRIC = f"""
import boto3
boto3.client("cloudwatch", endpoint_url="{ENDPOINT}").put_metric_data(
    Namespace="php", MetricData=[dict(MetricName="requests", Value=1)])
print("done")
"""


def test_each_role_may_make_its_own_call_only(docker, pair):
    for role, may, may_not in (("fluentd", PUT_OBJECT, PUT_METRIC), ("php", PUT_METRIC, PUT_OBJECT)):
        allowed, denied = boto3(docker, pair[role], may), boto3(docker, pair[role], may_not)
        assert allowed.stdout == "done\n", allowed.stderr
        assert denied.returncode != 0 and "AccessDenied" in denied.stderr


def test_no_path_header_or_address_leads_to_another_role(docker, pair, aws):
    documents = {role: document(docker, container) for role, container in pair.items()}
    for role in pair:
        assert f":assumed-role/{role}/" in aws.whose(documents[role])
    gateways = {role: gateway_of(docker, role) for role in pair}
    for role, container in pair.items():
        other = next(name for name in pair if name != role)
        own = documents[role]["SecretAccessKey"]
        secrets = [documents[other][key] for key in ("AccessKeyId", "SecretAccessKey", "Token")]
        secrets += [docker.instance.real_metadata.credential[key] for key in ("AccessKeyId", "SecretAccessKey", "Token")]
        addresses = [METADATA, f"{gateways[other]}:4567", f"{gateways[role]}:4567", f"{gateways[other]}:80",
                     f"{INSTANCE_ADDRESS}:4567", f"{METADATA}:4567", f"{METADATA}:8080", "[fd00:ec2::254]", "169.254.170.2"]
        paths = [LIST + role, LIST + other, LIST + HOST_ROLE, LIST + f"../security-credentials/{other}", LIST + f"{role}/../{other}",
                 f"/latest/meta-data/iam/security-credentials-extended/{other}", f"//latest/meta-data/iam/security-credentials/{other}",
                 f"/v2/credentials/{other}", "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance"]
        headers = [(), ("--header", "X-Forwarded-For: " + gateways[other]), ("--header", f"Host: {gateways[other]}:4567"),
                   ("--header", "X-aws-ec2-metadata-token: " + "A" * 56)]
        # One curl sends the requests for all paths, because a process for each request would take minutes.
        for address in addresses:
            seen = "".join(
                curl(docker, container, f"http://{address}{paths[0]}", "--path-as-is", "--connect-timeout", "0.3", "--fail-early", "--globoff", *header,
                     *(f"http://{address}{path}" for path in paths[1:]))[0]
                for header in headers)
            assert (own in seen) == (address == METADATA)
            for secret in secrets:
                assert secret not in seen, f"{role} got it at {address}"


FLUSHES = {
    "filter": "iptables -F",
    "every table": "for table in nat filter mangle raw; do iptables -t $table -F; ip6tables -t $table -F; done",
    "nft's ruleset": "nft flush ruleset",
}


@pytest.mark.parametrize("what", FLUSHES)
def test_flushed_firewall_gives_no_container_another_role(docker, pair, what):
    docker.instance.ec2.run("sh", "-euc", FLUSHES[what])
    try:
        for role, container in pair.items():
            other = next(name for name in pair if name != role)
            for path in (LIST, LIST + other, LIST + role):
                body, _ = curl(docker, container, f"http://{gateway_of(docker, other)}:4567{path}")
                assert "AccessKeyId" not in body and body != other
            body, status = metadata(docker, container, LIST, "--fail")
            assert body == role or status != 0
    finally:
        # The flush also deleted Docker's own rules; dockerd adds them again when it starts.
        docker.restart()


def test_forged_source_address_gives_no_other_role(docker, pair):
    """The rules choose a role by the bridge that a packet comes from, not by its source address."""
    address = docker.inspect(pair["fluentd"], "{{.NetworkSettings.Networks.fluentd.IPAddress}}")
    forger = start_client(docker, "--network", "php", "--cap-add", "NET_ADMIN")
    docker.execute(forger, "ip", "address", "add", f"{address}/32", "dev", "eth0")
    body, _ = curl(docker, forger, f"http://{METADATA}{LIST}", "--interface", address)
    assert body in ("", "php")


def test_each_container_of_ten_networks_gets_its_own_role(docker, aws):
    roles = [f"role-{n}" for n in range(10)]
    with concurrent.futures.ThreadPoolExecutor(10) as operators:
        list(operators.map(lambda role: create(docker, role), roles))
    listed = network(docker, "list").stdout
    for role in roles:
        assert arn(role) in listed
        container = start_client(docker, "--network", role)
        assert role_name(docker, container) == role
        assert f":assumed-role/{role}/" in aws.whose(document(docker, container))


def test_container_gets_only_its_own_role_after_a_boot(docker, tmp_path):
    create(docker, "php")
    seen = tmp_path / "seen"
    seen.mkdir()
    (seen / "by-container").touch()
    asks = f"while :; do curl -s --max-time 1 http://{METADATA}{LIST} >> /seen/by-container; echo >> /seen/by-container; sleep 0.1; done"
    docker.run("--network", "php", "--restart", "always", "--volume", f"{seen}:/seen", "client", "sh", "-c", asks)
    wait_until(lambda: "php" in (seen / "by-container").read_text(), what="the role before the boot")
    docker.stop()
    ec2 = docker.instance.ec2
    docker.instance.hook("remove", "--all")
    docker.instance.guard("off")
    for program, table in itertools.product(("iptables", "ip6tables"), ("raw", "nat", "filter")):
        ec2.run(program, "-t", table, "-F")
    ec2.run("ip", "link", "delete", "er-php")
    (seen / "by-container").write_text("")
    for name in ("ec2-role-guard", "ec2-role-hook"):
        unit = (REPOSITORY / f"scripts/{name}.service").read_text()
        arguments, = re.findall(rf"^ExecStart=/usr/local/sbin/{name} (.*)$", unit, re.M)
        docker.instance.run(REPOSITORY / f"scripts/{name}", *arguments.split())
    docker.start()
    wait_until(lambda: "php" in (seen / "by-container").read_text(), what="the role after the boot")
    assert set((seen / "by-container").read_text().split()) == {"php"}
