"""The service behind its load balancer."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.cloudformation import Aws, Deployment, environment, granted, secrets


def listeners(aws: Aws, deployment: Deployment) -> dict[int, dict[str, Any]]:
    balancer = deployment.ids("service")["LoadBalancer"]
    answer = aws("elbv2").describe_listeners(LoadBalancerArn=balancer)
    return {listener["Port"]: listener for listener in answer["Listeners"]}


def test_tasks_answer_only_when_they_are_ready(aws: Aws, deployed: Deployment) -> None:
    arn = deployed.ids("service")["TargetGroup"]
    [group] = aws("elbv2").describe_target_groups(TargetGroupArns=[arn])["TargetGroups"]
    assert (group["TargetType"], group["Protocol"], group["Port"]) == ("ip", "HTTP", 8000)
    assert group["HealthCheckPath"] == "/readyz"
    assert group["Matcher"] == {"HttpCode": "200"}
    assert group["HealthCheckIntervalSeconds"] == 10


def test_https_and_a_redirect_to_it(aws: Aws, deployed: Deployment, web_certificate: str) -> None:
    found = listeners(aws, deployed)
    assert found.keys() == {80, 443}
    [redirect] = found[80]["DefaultActions"]
    assert redirect["Type"] == "redirect"
    assert redirect["RedirectConfig"]["Protocol"] == "HTTPS"
    assert redirect["RedirectConfig"]["StatusCode"] == "HTTP_301"
    [forward] = found[443]["DefaultActions"]
    assert forward["TargetGroupArn"] == deployed.ids("service")["TargetGroup"]
    assert [one["CertificateArn"] for one in found[443]["Certificates"]] == [web_certificate]
    assert "TLS13" in found[443]["SslPolicy"]


def test_metrics_are_not_for_everybody(aws: Aws, deployed: Deployment) -> None:
    rules = aws("elbv2").describe_rules(ListenerArn=listeners(aws, deployed)[443]["ListenerArn"])
    [rule] = [rule for rule in rules["Rules"] if not rule["IsDefault"]]
    assert [one.get("PathPatternConfig", one)["Values"] for one in rule["Conditions"]] == [
        ["/metrics"]
    ]
    assert rule["Actions"][0]["FixedResponseConfig"]["StatusCode"] == "404"


def test_load_balancer(aws: Aws, deployed: Deployment, network: dict[str, Any]) -> None:
    elb, arn = aws("elbv2"), deployed.ids("service")["LoadBalancer"]
    [balancer] = elb.describe_load_balancers(LoadBalancerArns=[arn])["LoadBalancers"]
    assert (balancer["Type"], balancer["Scheme"]) == ("application", "internet-facing")
    assert balancer["SecurityGroups"] == [deployed.ids("service")["LoadBalancerSecurityGroup"]]
    zones = [zone["SubnetId"] for zone in balancer["AvailabilityZones"]]
    assert zones == network["public"]
    attributes = elb.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
    values = {one["Key"]: one["Value"] for one in attributes}
    assert values["routing.http.drop_invalid_header_fields.enabled"] == "true"


def test_one_address_cannot_send_any_number(aws: Aws, deployed: Deployment) -> None:
    balancer = deployed.ids("service")["LoadBalancer"]
    firewall = aws("wafv2").get_web_acl_for_resource(ResourceArn=balancer)["WebACL"]
    assert firewall["DefaultAction"] == {"Allow": {}}
    [rule] = firewall["Rules"]
    limit = rule["Statement"]["RateBasedStatement"]
    assert (int(limit["Limit"]), limit["AggregateKeyType"]) == (2000, "IP")
    assert rule["Action"] == {"Block": {"CustomResponse": {"ResponseCode": 429}}}


def test_only_the_load_balancer_reaches_the_tasks(deployed: Deployment) -> None:
    [ingress] = deployed.security_group("service", "SecurityGroup")["IpPermissions"]
    assert (ingress["FromPort"], ingress["ToPort"]) == (8000, 8000)
    assert not ingress["IpRanges"]
    [pair] = ingress["UserIdGroupPairs"]
    assert pair["GroupId"] == deployed.ids("service")["LoadBalancerSecurityGroup"]
    balancer = deployed.security_group("service", "LoadBalancerSecurityGroup")
    assert {one["FromPort"] for one in balancer["IpPermissions"]} == {80, 443}
    [egress] = balancer["IpPermissionsEgress"]
    assert egress["FromPort"] == 8000
    assert [one["CidrIp"] for one in egress["IpRanges"]] == ["10.0.0.0/16"]


def test_service_rolls_and_rolls_back(deployed: Deployment, network: dict[str, Any]) -> None:
    ids, service = deployed.ids("service"), deployed.service("service")
    assert service["launchType"] == "FARGATE"
    assert service["taskDefinition"] == ids["TaskDefinition"]
    rolling = service["deploymentConfiguration"]
    assert (rolling["minimumHealthyPercent"], rolling["maximumPercent"]) == (100, 200)
    assert rolling["deploymentCircuitBreaker"] == {"enable": True, "rollback": True}
    [balanced] = service["loadBalancers"]
    assert balanced == {
        "targetGroupArn": ids["TargetGroup"],
        "containerName": "service",
        "containerPort": 8000,
    }
    placed = service["networkConfiguration"]["awsvpcConfiguration"]
    assert placed["subnets"] == network["private"]
    assert placed["assignPublicIp"] == "DISABLED"
    assert placed["securityGroups"] == [
        ids["SecurityGroup"],
        deployed.ids("cache")["ClientSecurityGroup"],
    ]


def test_container(deployed: Deployment) -> None:
    task = deployed.task_definition("service")
    assert (task["cpu"], task["memory"]) == ("512", "1024")
    [container] = task["containerDefinitions"]
    assert container["image"] == f"{deployed.outputs('base')['ServiceRepositoryUri']}:1.0.0"
    assert container["readonlyRootFilesystem"]
    assert container["user"] == "10001:10001"
    assert container["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}
    assert [one["containerPort"] for one in container["portMappings"]] == [8000]
    assert "/healthz" in container["healthCheck"]["command"][-1]
    settings = environment(container)
    assert (settings["HOST"], settings["PORT"]) == ("0.0.0.0", "8000")
    assert "LAKE_PATH" not in settings
    assert secrets(container) == {"REDIS_URL": deployed.outputs("cache")["ServiceUrlArn"]}


def test_with_a_cache_the_container_may_do_nothing(deployed: Deployment) -> None:
    assert deployed.policies("service", "TaskRole") == []
    base = deployed.outputs("base")
    rights = granted(deployed.policies("service", "ExecutionRole"))
    assert rights.keys() == {
        "SignInToRegistry",
        "PullImage",
        "WriteLog",
        "ReadRedisUrl",
        "UseKeyThroughSecrets",
    }
    assert rights["PullImage"][1] == base["ServiceRepositoryArn"]
    assert rights["ReadRedisUrl"][1] == deployed.outputs("cache")["ServiceUrlArn"]
    assert rights["UseKeyThroughSecrets"] == ({"kms:Decrypt"}, base["KeyArn"])
    assert [name for name, (_, resource) in rights.items() if resource == "*"] == [
        "SignInToRegistry"
    ]


@pytest.mark.parametrize(
    ("resource", "metric", "threshold", "periods"),
    [
        ("ErrorsAlarm", "HTTPCode_Target_5XX_Count", 10, 1),
        ("UnreachableAlarm", "HTTPCode_ELB_5XX_Count", 10, 1),
        ("LatencyAlarm", "TargetResponseTime", 0.25, 3),
    ],
)
def test_alarms(
    aws: Aws, deployed: Deployment, resource: str, metric: str, threshold: float, periods: int
) -> None:
    alarm = deployed.alarm("service", resource)
    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/ApplicationELB", metric)
    balancer = deployed.ids("service")["LoadBalancer"].split(":loadbalancer/")[1]
    assert alarm["Dimensions"] == [{"Name": "LoadBalancer", "Value": balancer}]
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", threshold)
    assert (alarm["Period"], alarm["EvaluationPeriods"]) == (300, periods)
    assert alarm["TreatMissingData"] == "notBreaching"
    assert alarm["AlarmActions"] == alarm["OKActions"] == [deployed.ids("base")["Alerts"]]
    assert alarm.get("ExtendedStatistic") == ("p99" if resource == "LatencyAlarm" else None)


def test_without_a_cache_the_service_reads_the_lake(aws: Aws, fresh: Deployment) -> None:
    fresh.deploy("base")
    fresh.deploy("service", ImageTag="1", CacheStack="")
    bucket = fresh.ids("base")["Bucket"]
    [container] = fresh.task_definition("service")["containerDefinitions"]
    assert environment(container)["LAKE_PATH"] == f"s3://{bucket}/lake"
    assert not secrets(container)
    assert granted(fresh.policies("service", "TaskRole")) == {
        "ReadLake": ({"s3:GetObject"}, f"arn:aws:s3:::{bucket}/lake/*"),
        "ListBucket": ({"s3:ListBucket"}, f"arn:aws:s3:::{bucket}"),
        "UseKeyThroughTheBucket": ({"kms:Decrypt"}, fresh.outputs("base")["KeyArn"]),
    }
    assert "ReadRedisUrl" not in granted(fresh.policies("service", "ExecutionRole"))
    [group] = fresh.service("service")["networkConfiguration"]["awsvpcConfiguration"][
        "securityGroups"
    ]
    assert group == fresh.ids("service")["SecurityGroup"]


def test_without_a_certificate_http_stays_in_the_vpc(aws: Aws, fresh: Deployment) -> None:
    fresh.deploy("base")
    fresh.deploy("service", ImageTag="1", CacheStack="")
    found = listeners(aws, fresh)
    assert found.keys() == {80}
    assert found[80]["DefaultActions"][0]["Type"] == "forward"
    arn = fresh.ids("service")["LoadBalancer"]
    [balancer] = aws("elbv2").describe_load_balancers(LoadBalancerArns=[arn])["LoadBalancers"]
    assert balancer["Scheme"] == "internal"
    # The shop's back end may send any number.
    assert not {"Firewall", "FirewallAssociation"} & fresh.ids("service").keys()
    assert fresh.outputs("service")["Url"] == f"http://{balancer['DNSName']}"


def test_age_alarm_fires_when_old_data_are_served(aws: Aws, deployed: Deployment) -> None:
    alarm = deployed.alarm("service", "NewestDateAlarm")
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 72)
    assert (alarm["Statistic"], alarm["TreatMissingData"]) == ("Maximum", "ignore")
    assert alarm["AlarmActions"] == alarm["OKActions"] == [deployed.ids("base")["Alerts"]]
    group = deployed.ids("service")["LogGroup"]
    [found] = aws("logs").describe_metric_filters(logGroupName=group)["metricFilters"]
    [metric] = found["metricTransformations"]
    assert metric["metricValue"] == "$hours"
    assert (alarm["Namespace"], alarm["MetricName"]) == (
        metric["metricNamespace"],
        metric["metricName"],
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"Scheme": "internet-facing"}, "internet-facing needs CertificateArn"),
        ({"RequestsPerAddress": "0"}, "RequestsPerAddress"),
        ({"MaximumTasks": "0"}, "MaximumTasks"),
        ({"Memory": "512"}, "without a cache a task needs 1024 MiB"),
        ({"Memory": "768"}, "Memory"),
        ({"ImageTag": "no tag"}, "ImageTag"),
        ({"CertificateArn": "shop.example"}, "CertificateArn"),
        ({"AllowedCidr": "everybody"}, "AllowedCidr"),
    ],
)
def test_what_would_not_do_is_refused(
    aws: Aws, fresh: Deployment, given: dict[str, str], told: str
) -> None:
    fresh.deploy("base")
    with pytest.raises(ClientError, match=told):
        fresh.deploy("service", **{"ImageTag": "1", "CacheStack": "", **given})


def test_release_and_size_can_be_changed(aws: Aws, fresh: Deployment) -> None:
    fresh.deploy("base")
    fresh.deploy("service", ImageTag="1.0.0", CacheStack="")
    before = fresh.ids("service")
    fresh.deploy(
        "service",
        ImageTag="1.1.0",
        MinimumTasks="4",
        Cpu="1024",
        Memory="2048",
        MaximumErrors="5",
        MaximumLatencySeconds="0.1",
        MaximumNewestDateAgeHours="48",
    )
    task, service = fresh.task_definition("service"), fresh.service("service")
    assert task["containerDefinitions"][0]["image"].endswith(":1.1.0")
    assert (task["cpu"], task["memory"]) == ("1024", "2048")
    assert service["taskDefinition"] == task["taskDefinitionArn"] != before["TaskDefinition"]
    assert fresh.alarm("service", "ErrorsAlarm")["Threshold"] == 5
    assert fresh.alarm("service", "LatencyAlarm")["Threshold"] == 0.1
    assert fresh.alarm("service", "NewestDateAlarm")["Threshold"] == 48
    changed = {name for name, physical in fresh.ids("service").items() if physical != before[name]}
    assert changed == {"TaskDefinition"}


def test_a_certificate_can_come_later(aws: Aws, fresh: Deployment, web_certificate: str) -> None:
    fresh.deploy("base")
    fresh.deploy("service", ImageTag="1", CacheStack="")
    fresh.deploy("service", CertificateArn=web_certificate)
    found = listeners(aws, fresh)
    assert found[80]["DefaultActions"][0]["Type"] == "redirect"
    assert found[443]["DefaultActions"][0]["Type"] == "forward"
    assert fresh.outputs("service")["Url"].startswith("https://")
