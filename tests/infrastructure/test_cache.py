"""The cache, its users and the secrets that lead to it."""

import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.cloudformation import Aws, Deployment, template_text


def group(aws: Aws, deployment: Deployment) -> dict[str, Any]:
    name = deployment.ids("cache")["Cache"]
    answer = aws("elasticache").describe_replication_groups(ReplicationGroupId=name)
    return answer["ReplicationGroups"][0]


def user(aws: Aws, deployment: Deployment, resource: str) -> dict[str, Any]:
    name = deployment.ids("cache")[resource]
    return aws("elasticache").describe_users(UserId=name)["Users"][0]


def secret(aws: Aws, deployment: Deployment, resource: str, stage: str = "AWSCURRENT") -> str:
    name = deployment.ids("cache")[resource]
    answer = aws("secretsmanager").get_secret_value(SecretId=name, VersionStage=stage)
    return answer["SecretString"]


def password(aws: Aws, deployment: Deployment, resource: str, stage: str = "AWSCURRENT") -> str:
    [only] = json.loads(secret(aws, deployment, resource, stage)).values()
    return only


def test_cache_is_encrypted_and_fails_over(aws: Aws, deployed: Deployment) -> None:
    cache = group(aws, deployed)
    assert cache["Engine"] == "valkey"
    assert cache["TransitEncryptionEnabled"]
    assert cache["TransitEncryptionMode"] == "required"
    assert cache["AtRestEncryptionEnabled"]
    assert len(cache["MemberClusters"]) == 2
    assert (cache["AutomaticFailover"], cache["MultiAZ"]) == ("enabled", "enabled")
    assert cache["UserGroupIds"] == [deployed.ids("cache")["UserGroup"]]


def test_cache_refuses_instead_of_evicting(aws: Aws, deployed: Deployment) -> None:
    elasticache, ids = aws("elasticache"), deployed.ids("cache")
    answer = elasticache.describe_cache_parameters(CacheParameterGroupName=ids["ParameterGroup"])
    values = {one["ParameterName"]: one.get("ParameterValue") for one in answer["Parameters"]}
    assert values["maxmemory-policy"] == "noeviction"


def test_cache_is_in_the_private_subnets(aws: Aws, deployed: Deployment, network) -> None:
    name = deployed.ids("cache")["SubnetGroup"]
    answer = aws("elasticache").describe_cache_subnet_groups(CacheSubnetGroupName=name)
    subnets = answer["CacheSubnetGroups"][0]["Subnets"]
    assert [one["SubnetIdentifier"] for one in subnets] == network["private"]


def test_every_node_has_the_settings(aws: Aws, deployed: Deployment) -> None:
    ids = deployed.ids("cache")
    nodes = [
        node
        for node in aws("elasticache").describe_cache_clusters()["CacheClusters"]
        if node.get("ReplicationGroupId") == ids["Cache"]
    ]
    assert len(nodes) == 2
    for node in nodes:
        assert node["CacheParameterGroup"]["CacheParameterGroupName"] == ids["ParameterGroup"]
        assert node["CacheSubnetGroupName"] == ids["SubnetGroup"]
        assert [one["SecurityGroupId"] for one in node["SecurityGroups"]] == [
            ids["CacheSecurityGroup"]
        ]


def test_secrets_are_encrypted_with_the_key(aws: Aws, deployed: Deployment) -> None:
    for resource in ("ServicePassword", "BatchPassword", "ServiceUrl", "BatchUrl"):
        answer = aws("secretsmanager").describe_secret(SecretId=deployed.ids("cache")[resource])
        assert answer["KmsKeyId"] == deployed.outputs("base")["KeyArn"]


def test_only_clients_reach_the_cache(deployed: Deployment) -> None:
    ids = deployed.ids("cache")
    [ingress] = deployed.security_group("cache", "CacheSecurityGroup")["IpPermissions"]
    assert (ingress["FromPort"], ingress["ToPort"]) == (6379, 6379)
    assert not ingress["IpRanges"]
    [pair] = ingress["UserIdGroupPairs"]
    assert pair["GroupId"] == ids["ClientSecurityGroup"]
    clients = deployed.security_group("cache", "ClientSecurityGroup")
    assert not clients["IpPermissions"]
    [egress] = clients["IpPermissionsEgress"]
    assert egress["FromPort"] == 6379
    assert [one["CidrIp"] for one in egress["IpRanges"]] == ["10.0.0.0/16"]


def test_users_may_do_what_they_need_and_no_more(aws: Aws, deployed: Deployment) -> None:
    ids = deployed.ids("cache")
    answer = aws("elasticache").describe_user_groups(UserGroupId=ids["UserGroup"])
    assert set(answer["UserGroups"][0]["UserIds"]) == {ids["ServiceUser"], ids["BatchUser"]}
    for resource, name, rights in (
        ("ServiceUser", "service", {"+@read", "+@connection"}),
        ("BatchUser", "batch", {"+@read", "+@write", "+@connection", "+@transaction"}),
    ):
        found = user(aws, deployed, resource)
        assert found["UserName"] == name
        assert found["Authentication"] == {"Type": "password", "PasswordCount": 1}
        on, keys, nothing, *granted, no_danger = found["AccessString"].split()
        assert (on, keys, nothing) == ("on", "~bought-together:*", "-@all")
        assert (set(granted), no_danger) == (rights, "-@dangerous")


@pytest.mark.parametrize("who", ["Service", "Batch"])
def test_url_leads_to_the_cache_with_the_password(aws: Aws, deployed: Deployment, who: str) -> None:
    url = urlsplit(secret(aws, deployed, f"{who}Url"))
    primary = group(aws, deployed)["NodeGroups"][0]["PrimaryEndpoint"]
    assert url.scheme == "rediss"
    assert url.username == who.lower()
    assert url.password == password(aws, deployed, f"{who}Password")
    assert len(url.password) == 64 and url.password.isalnum()
    assert (url.hostname, url.port, url.path) == (primary["Address"], primary["Port"], "/0")


def test_passwords_are_in_the_secrets_alone(aws: Aws, deployed: Deployment) -> None:
    passwords = [password(aws, deployed, f"{who}Password") for who in ("Service", "Batch")]
    assert passwords[0] != passwords[1]
    cloudformation = aws("cloudformation")
    seen = [
        json.dumps(deployed.task_definition(template), default=str)
        for template in ("batch", "service")
    ]
    for template in deployed.stacks:
        name = deployed.name(template)
        seen.append(json.dumps(cloudformation.describe_stacks(StackName=name), default=str))
        seen.append(json.dumps(cloudformation.describe_stack_events(StackName=name), default=str))
        seen.append(template_text(template))
    assert not [text for text in seen for one in passwords if one in text]


def test_rotation_accepts_the_passwords_before_until_told_otherwise(
    aws: Aws, fresh: Deployment
) -> None:
    fresh.deploy("base")
    fresh.deploy("cache")
    arns = fresh.outputs("cache")
    before = {who: password(aws, fresh, f"{who}Password") for who in ("Service", "Batch")}
    for name in "BA":
        fresh.deploy("cache", PasswordInUse=name, AcceptPreviousPasswords="true")
        for who, old in before.items():
            new = password(aws, fresh, f"{who}Password")
            assert new != old
            assert password(aws, fresh, f"{who}Password", "AWSPREVIOUS") == old
            assert urlsplit(secret(aws, fresh, f"{who}Url")).password == new
            # Which two they are the service does not tell.
            assert user(aws, fresh, f"{who}User")["Authentication"]["PasswordCount"] == 2
            before[who] = new
    fresh.deploy("cache", AcceptPreviousPasswords="false")
    for who, current in before.items():
        assert password(aws, fresh, f"{who}Password") == current
        assert user(aws, fresh, f"{who}User")["Authentication"]["PasswordCount"] == 1
    assert fresh.outputs("cache") == arns, "task definitions name the same secrets"


def test_size_can_be_changed(aws: Aws, fresh: Deployment) -> None:
    fresh.deploy("base")
    fresh.deploy("cache")
    endpoint = group(aws, fresh)["NodeGroups"][0]["PrimaryEndpoint"]
    fresh.deploy("cache", NodeType="cache.m7g.large", NodeCount="3", MemoryAlarmPercent="60")
    cache = group(aws, fresh)
    assert cache["CacheNodeType"] == "cache.m7g.large"
    assert len(cache["NodeGroups"][0]["NodeGroupMembers"]) == 3
    assert cache["NodeGroups"][0]["PrimaryEndpoint"] == endpoint
    assert fresh.alarm("cache", "MemoryAlarm")["Threshold"] == 60


def test_memory_alarm(deployed: Deployment) -> None:
    alarm = deployed.alarm("cache", "MemoryAlarm")
    assert alarm["Namespace"] == "AWS/ElastiCache"
    assert alarm["MetricName"] == "DatabaseMemoryUsagePercentage"
    assert alarm["Dimensions"] == [
        {"Name": "CacheClusterId", "Value": f"{deployed.ids('cache')['Cache']}-001"}
    ]
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 75)
    assert alarm["AlarmActions"] == [deployed.ids("base")["Alerts"]]
