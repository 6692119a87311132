"""What the emulator takes no notice of when it makes a resource, so that no service can be asked:
read from the templates. The linters say that these properties exist, with the right types."""

from typing import Any

import pytest

from tests.support.cloudformation import template_resources

UNNOTICED = [
    ("base", "Alerts", "KmsMasterKeyId", "Key.Arn"),
    ("batch", "TaskDefinition", "EphemeralStorage", {"SizeInGiB": "EphemeralStorageGiB"}),
    ("batch", "Schedule", "ScheduleExpressionTimezone", "ScheduleTimezone"),
    ("cache", "Cache", "KmsKeyId", {"Fn::ImportValue": "${BaseStack}-KeyArn"}),
    ("dask", "Scheduler", "ServiceRegistries", [{"RegistryArn": "SchedulerName.Arn"}]),
    ("service", "Service", "HealthCheckGracePeriodSeconds", 60),
    *(
        ("service", "Scaling", *given)
        for given in (
            ("ServiceNamespace", "ecs"),
            ("ScalableDimension", "ecs:service:DesiredCount"),
            ("ResourceId", "service/${Cluster}/${Service.Name}"),
            ("MinCapacity", "MinimumTasks"),
            ("MaxCapacity", "MaximumTasks"),
        )
    ),
    ("service", "ScalingPolicy", "PolicyType", "TargetTrackingScaling"),
    ("service", "ScalingPolicy", "ScalingTargetId", "Scaling"),
    (
        "service",
        "ScalingPolicy",
        "TargetTrackingScalingPolicyConfiguration",
        {
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "ECSServiceAverageCPUUtilization"
            },
            "TargetValue": 60,
            "ScaleOutCooldown": 60,
            "ScaleInCooldown": 300,
        },
    ),
    ("service", "Service", "AvailabilityZoneRebalancing", "ENABLED"),
    *(
        ("endpoints", f"{name}Endpoint", *given)
        for name in ("EcrApi", "EcrDocker", "Logs", "Secrets")
        for given in (("PrivateDnsEnabled", True), ("SecurityGroupIds", ["SecurityGroup"]))
    ),
]


@pytest.mark.parametrize(("template", "resource", "name", "value"), UNNOTICED)
def test_property_is_set(template: str, resource: str, name: str, value: Any) -> None:
    assert template_resources(template)[resource]["Properties"][name] == value


def test_a_release_keeps_the_number_of_tasks_that_the_load_needs() -> None:
    assert "DesiredCount" not in template_resources("service")["Service"]["Properties"]
