"""The scheduled batch: its task, what starts it, what it may do, and who hears of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.cloudformation import Aws, Deployment, environment, granted, secrets

PUBLISH = Path(__file__).parents[2] / "scripts" / "publish.py"


@pytest.fixture
def bucket(deployed: Deployment) -> str:
    return deployed.ids("base")["Bucket"]


def test_task_builds_and_then_publishes(deployed: Deployment, bucket: str) -> None:
    task = deployed.task_definition("batch")
    assert task["requiresCompatibilities"] == ["FARGATE"]
    assert task["networkMode"] == "awsvpc"
    assert (task["cpu"], task["memory"]) == ("2048", "8192")
    assert task["taskRoleArn"] == deployed.role_arn("batch", "TaskRole")
    assert task["executionRoleArn"] == deployed.role_arn("batch", "ExecutionRole")

    build, publish = task["containerDefinitions"]
    assert build["command"][-1].endswith("exec python scripts/build.py")
    assert publish["command"] == ["python", "scripts/publish.py"]
    assert publish["dependsOn"] == [{"containerName": "build", "condition": "SUCCESS"}]
    # ECS starts nothing after a container that the task cannot live without.
    assert (build["essential"], publish["essential"]) == (False, True)
    repository = deployed.outputs("base")["BatchRepositoryUri"]
    assert build["image"] == publish["image"] == f"{repository}:1.0.0"
    for container in (build, publish):
        assert container["user"] == "10001:10001"
        assert container["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}
        assert environment(container)["LAKE_PATH"] == f"s3://{bucket}/lake"
        log = container["logConfiguration"]
        assert log["options"]["awslogs-group"] == deployed.ids("batch")["LogGroup"]
    settings = environment(build)
    assert settings["TRANSACTIONS"] == f"s3://{bucket}/source/transactions*.txt*"
    assert settings["PRODUCTS"] == f"s3://{bucket}/source/products.txt"
    assert settings["MAX_REJECT_FRACTION"] == "0.01"


def test_only_publish_knows_the_cache(deployed: Deployment) -> None:
    build, publish = deployed.task_definition("batch")["containerDefinitions"]
    assert secrets(publish) == {"REDIS_URL": deployed.outputs("cache")["BatchUrlArn"]}
    assert "REDIS_URL" not in secrets(build) | environment(build)


def test_build_finds_the_cluster(deployed: Deployment, certificates: str) -> None:
    build = deployed.containers("batch")["build"]
    settings = environment(build)
    assert settings["DASK_SCHEDULER"] == deployed.outputs("dask")["SchedulerAddress"]
    assert secrets(build) == {
        "DASK_CA": f"{certificates}:ca::",
        "DASK_CERTIFICATE": f"{certificates}:certificate::",
        "DASK_KEY": f"{certificates}:key::",
    }
    [_, _, command] = build["command"]
    for name in ("CA_FILE", "CLIENT__CERT", "CLIENT__KEY"):
        assert f"> {settings[f'DASK_DISTRIBUTED__COMM__TLS__{name}']};" in command


def test_schedule_runs_the_task(deployed: Deployment, network: dict[str, Any]) -> None:
    ids, schedule = deployed.ids("batch"), deployed.schedule()
    assert schedule["ScheduleExpression"] == "cron(0 3 * * ? *)"
    assert schedule["State"] == "ENABLED"
    target = schedule["Target"]
    assert target["Arn"] == deployed.outputs("batch")["ClusterArn"]
    assert target["RoleArn"] == deployed.role_arn("batch", "ScheduleRole")
    ecs = target["EcsParameters"]
    assert (ecs["TaskDefinitionArn"], ecs["LaunchType"]) == (ids["TaskDefinition"], "FARGATE")
    placed = ecs["NetworkConfiguration"]["awsvpcConfiguration"]
    assert placed["Subnets"] == network["private"]
    assert placed["AssignPublicIp"] == "DISABLED"
    assert placed["SecurityGroups"] == [
        ids["SecurityGroup"],
        deployed.ids("cache")["ClientSecurityGroup"],
        deployed.ids("dask")["ClientSecurityGroup"],
    ]


def test_a_run_by_hand_is_as_the_schedules(deployed: Deployment, aws: Aws) -> None:
    outputs = deployed.outputs("batch")
    by_hand = json.loads(outputs["NetworkConfiguration"])
    ecs = deployed.schedule()["Target"]["EcsParameters"]
    placed = ecs["NetworkConfiguration"]["awsvpcConfiguration"]
    assert by_hand["awsvpcConfiguration"] == {
        key[0].lower() + key[1:]: value for key, value in placed.items()
    }
    run = aws("ecs").run_task(
        cluster=outputs["ClusterArn"],
        taskDefinition=outputs["TaskDefinitionArn"],
        launchType="FARGATE",
        networkConfiguration=by_hand,
    )
    assert not run["failures"]
    assert [task["taskDefinitionArn"] for task in run["tasks"]] == [ecs["TaskDefinitionArn"]]


def test_nobody_calls_the_batch(deployed: Deployment) -> None:
    group = deployed.security_group("batch", "SecurityGroup")
    assert not group["IpPermissions"]
    [egress] = group["IpPermissionsEgress"]
    assert (egress["FromPort"], egress["ToPort"]) == (443, 443)


def test_task_reads_the_input_and_writes_the_lake(
    deployed: Deployment, bucket: str, aws: Aws
) -> None:
    role = deployed.role_arn("batch", "TaskRole")

    def may(action: str, key: str) -> bool:
        resource = f"arn:aws:s3:::{bucket}{key}"
        answer = aws("iam").simulate_principal_policy(
            PolicySourceArn=role, ActionNames=[action], ResourceArns=[resource]
        )
        return answer["EvaluationResults"][0]["EvalDecision"] == "allowed"

    assert may("s3:ListBucket", "")
    assert may("s3:GetObject", "/source/products.txt")
    assert not may("s3:PutObject", "/source/products.txt")
    assert not may("s3:DeleteObject", "/source/products.txt")
    for action in ("GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload"):
        assert may(f"s3:{action}", "/lake/current.json")
    assert not may("s3:GetObject", "/lakes/current.json")
    assert not may("s3:GetObject", "/other/file")
    assert not may("s3:DeleteObjectVersion", "/lake/current.json")
    assert not may("s3:PutBucketPolicy", "")


def test_roles_name_what_they_need(deployed: Deployment, aws: Aws, certificates: str) -> None:
    ids, base = deployed.ids("batch"), deployed.outputs("base")
    log_group = f"arn:aws:logs:{Aws.region}:{Aws.account}:log-group:{ids['LogGroup']}:*"
    assert granted(deployed.policies("batch", "ExecutionRole")) == {
        "SignInToRegistry": ({"ecr:GetAuthorizationToken"}, "*"),
        "PullImage": (
            {
                "ecr:BatchCheckLayerAvailability",
                "ecr:BatchGetImage",
                "ecr:GetDownloadUrlForLayer",
            },
            base["BatchRepositoryArn"],
        ),
        "WriteLog": ({"logs:CreateLogStream", "logs:PutLogEvents"}, log_group),
        "ReadRedisUrl": (
            {"secretsmanager:GetSecretValue"},
            deployed.outputs("cache")["BatchUrlArn"],
        ),
        "ReadCertificates": ({"secretsmanager:GetSecretValue"}, certificates),
        "UseKeyThroughSecrets": ({"kms:Decrypt"}, base["KeyArn"]),
    }
    assert granted(deployed.policies("batch", "ScheduleRole")) == {
        "RunTheBatch": ({"ecs:RunTask"}, ids["TaskDefinition"]),
        "HandItsRolesOver": (
            {"iam:PassRole"},
            [deployed.role_arn("batch", name) for name in ("TaskRole", "ExecutionRole")],
        ),
    }
    everything = granted(deployed.policies("batch", "TaskRole"))
    assert not [one for actions, _ in everything.values() for one in actions if "*" in one]


def test_only_ecs_and_the_scheduler_take_the_roles(deployed: Deployment, aws: Aws) -> None:
    for name, service in (
        ("TaskRole", "ecs-tasks"),
        ("ExecutionRole", "ecs-tasks"),
        ("ScheduleRole", "scheduler"),
    ):
        role = aws("iam").get_role(RoleName=deployed.ids("batch")[name])["Role"]
        [statement] = role["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": f"{service}.amazonaws.com"}
        assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": Aws.account}}


def test_log_is_kept_for_a_time(deployed: Deployment, aws: Aws) -> None:
    name = deployed.ids("batch")["LogGroup"]
    [group] = aws("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    assert group["retentionInDays"] == 90
    assert group["kmsKeyId"] == deployed.outputs("base")["KeyArn"]


def stopped(deployment: Deployment, exit_codes: list[int | None], code: str) -> dict[str, Any]:
    """Return the event of a task that has ended."""
    containers = [
        {"name": name} | ({} if status is None else {"exitCode": status})
        for name, status in zip(("build", "publish"), exit_codes, strict=True)
    ]
    cluster = deployment.outputs("batch")["ClusterArn"]
    return {
        "id": "1",
        "account": Aws.account,
        "region": Aws.region,
        "time": "2026-01-01T03:10:00Z",
        "source": "aws.ecs",
        "detail-type": "ECS Task State Change",
        "resources": [],
        "detail": {
            "clusterArn": cluster,
            "lastStatus": "STOPPED",
            "containers": containers,
            "stopCode": code,
            "stoppedReason": "the reason",
            "taskArn": f"{cluster}/1",
        },
    }


@pytest.mark.parametrize(
    ("exit_codes", "code", "is_failure"),
    [
        ([0, 0], "EssentialContainerExited", False),
        ([1, None], "EssentialContainerExited", True),
        ([2, None], "EssentialContainerExited", True),
        ([0, 2], "EssentialContainerExited", True),
        ([None, None], "TaskFailedToStart", True),
        ([None, None], "SpotInterruption", True),
    ],
)
def test_failures_are_told(
    deployed: Deployment,
    aws: Aws,
    exit_codes: list[int | None],
    code: str,
    is_failure: bool,
) -> None:
    rule = aws("events").describe_rule(Name=deployed.ids("batch")["FailureRule"])
    event = stopped(deployed, exit_codes, code)

    def matches() -> bool:
        answer = aws("events").test_event_pattern(
            EventPattern=rule["EventPattern"], Event=json.dumps(event)
        )
        return answer["Result"]

    assert rule["State"] == "ENABLED"
    assert matches() is is_failure
    event["detail"]["lastStatus"] = "RUNNING"
    assert not matches()
    event["detail"] |= {"lastStatus": "STOPPED", "clusterArn": "another cluster"}
    assert not matches()


def test_a_failure_reaches_the_topic(fresh: Deployment, aws: Aws) -> None:
    fresh.deploy("base")
    fresh.deploy("batch", ImageTag="1", CacheStack="")
    sqs, events = aws("sqs"), aws("events")
    queue = sqs.create_queue(QueueName="inbox")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    aws("sns").subscribe(
        TopicArn=fresh.ids("base")["Alerts"],
        Protocol="sqs",
        Endpoint=arn["Attributes"]["QueueArn"],
    )
    # Nobody but AWS may send events as aws.ecs, so the rule is made to listen to this test.
    rule = events.describe_rule(Name=fresh.ids("batch")["FailureRule"])
    pattern = json.loads(rule["EventPattern"]) | {"source": ["test"]}
    events.put_rule(Name=rule["Name"], EventPattern=json.dumps(pattern))
    event = stopped(fresh, [1, None], "EssentialContainerExited")
    entry = {
        "Source": "test",
        "DetailType": event["detail-type"],
        "Detail": json.dumps(event["detail"]),
    }
    assert not events.put_events(Entries=[entry])["FailedEntryCount"]
    [message] = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=20)["Messages"]
    text = json.loads(message["Body"])["Message"]
    assert "The batch failed: the reason." in text
    assert event["detail"]["taskArn"] in text
    assert fresh.ids("batch")["LogGroup"] in text


def lines_counted(aws: Aws, deployment: Deployment, lines: list[str]) -> list[str]:
    """Return the lines that the metric filter of a batch counts."""
    logs, group = aws("logs"), deployment.ids("batch")["LogGroup"]
    [metric_filter] = logs.describe_metric_filters(logGroupName=group)["metricFilters"]
    [metric] = metric_filter["metricTransformations"]
    assert metric["metricValue"] == "1"
    alarm = deployment.alarm("batch", "DataAgeAlarm")
    assert (alarm["Namespace"], alarm["MetricName"]) == (
        metric["metricNamespace"],
        metric["metricName"],
    )
    now = 1_767_236_400_000
    logs.create_log_stream(logGroupName=group, logStreamName="batch")
    logs.put_log_events(
        logGroupName=group,
        logStreamName="batch",
        logEvents=[{"timestamp": now + n, "message": line} for n, line in enumerate(lines)],
    )
    found = logs.filter_log_events(
        logGroupName=group, filterPattern=metric_filter["filterPattern"], startTime=now
    )
    return [event["message"] for event in found["events"]]


EXPORTED = "published  build 20260101T030000Z-1a2b3c in s3://bucket/lake"
PUBLISHED = "published  20260101T030000Z-1a2b3c: 40 products in 0.1 s"
OTHERS = [
    "read       300 records in 1 file (0.1 MB), 40 product lines",
    "dbt build failed, nothing was published; details in /data/dbt/logs/dbt.log",
    "published  20260101T030000Z-1a2b3c already: nothing to do",
    "rolled back from 20260102T030000Z-4d5e6f to 20260101T030000Z-1a2b3c",
]


def test_what_is_published_is_counted(deployed: Deployment, aws: Aws) -> None:
    assert lines_counted(aws, deployed, [*OTHERS, EXPORTED, PUBLISHED]) == [PUBLISHED]
    assert 'f"published  {export.version}: {products:,} products in ' in PUBLISH.read_text()


def test_without_a_cache_the_export_is_counted(fresh: Deployment, aws: Aws) -> None:
    fresh.deploy("base")
    fresh.deploy("batch", ImageTag="1", CacheStack="")
    assert lines_counted(aws, fresh, [*OTHERS, EXPORTED]) == [EXPORTED]
    [build] = fresh.task_definition("batch")["containerDefinitions"]
    assert build["essential"]
    assert build["command"] == ["python", "scripts/build.py"]
    assert not secrets(build)
    placed = fresh.schedule()["Target"]["EcsParameters"]["NetworkConfiguration"]
    assert placed["awsvpcConfiguration"]["SecurityGroups"] == [fresh.ids("batch")["SecurityGroup"]]


def test_age_alarm_fires_when_nothing_is_published(deployed: Deployment) -> None:
    alarm = deployed.alarm("batch", "DataAgeAlarm")
    assert (alarm["Statistic"], alarm["Period"], alarm["EvaluationPeriods"]) == ("Sum", 3600, 30)
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", 1)
    assert alarm["TreatMissingData"] == "breaching"
    assert alarm["AlarmActions"] == alarm["OKActions"] == [deployed.ids("base")["Alerts"]]


def test_release_schedule_and_size_can_be_changed(fresh: Deployment, aws: Aws) -> None:
    fresh.deploy("base")
    fresh.deploy("batch", ImageTag="1.0.0", CacheStack="")
    before = fresh.ids("batch")
    fresh.deploy(
        "batch",
        ImageTag="1.1.0",
        ScheduleExpression="cron(30 4 * * ? *)",
        ScheduleState="DISABLED",
        Cpu="4096",
        Memory="16384",
        DuckDbMemoryLimit="12GB",
        MaximumDataAgeHours="48",
        LogRetentionDays="30",
    )
    task = fresh.task_definition("batch")
    [build] = task["containerDefinitions"]
    assert build["image"].endswith(":1.1.0")
    assert environment(build)["DUCKDB_MEMORY_LIMIT"] == "12GB"
    assert (task["cpu"], task["memory"]) == ("4096", "16384")
    schedule = fresh.schedule()
    assert schedule["ScheduleExpression"] == "cron(30 4 * * ? *)"
    assert schedule["State"] == "DISABLED"
    assert schedule["Target"]["EcsParameters"]["TaskDefinitionArn"] == task["taskDefinitionArn"]
    assert granted(fresh.policies("batch", "ScheduleRole"))["RunTheBatch"] == (
        {"ecs:RunTask"},
        task["taskDefinitionArn"],
    )
    assert fresh.alarm("batch", "DataAgeAlarm")["EvaluationPeriods"] == 48
    [group] = aws("logs").describe_log_groups(logGroupNamePrefix=before["LogGroup"])["logGroups"]
    assert group["retentionInDays"] == 30
    changed = {name for name, physical in fresh.ids("batch").items() if physical != before[name]}
    assert changed == {"TaskDefinition"}
