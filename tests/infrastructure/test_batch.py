"""The scheduled batch: its task, what starts it, what it may do, and who hears of it."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.cloudformation import (
    TEMPLATES,
    Aws,
    Deployment,
    as_the_api_spells,
    environment,
    granted,
    secrets,
)

PUBLISH = ROOT / "scripts" / "publish.py"


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
    assert build["command"][-1].endswith("python scripts/build.py")
    assert publish["command"][-2:] == ["python", "scripts/publish.py"]
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
    assert settings["MIN_COPURCHASE_COUNT"] == ""  # dbt_project.yml decides
    assert "INPUT_MAPPING" not in settings


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


def test_schedule_starts_the_state_machine(deployed: Deployment) -> None:
    schedule = deployed.schedule()
    assert schedule["ScheduleExpression"] == "cron(0 3 * * ? *)"
    assert schedule["State"] == "ENABLED"
    target = schedule["Target"]
    assert target["Arn"] == deployed.outputs("batch")["StateMachineArn"]
    assert target["RoleArn"] == deployed.role_arn("batch", "ScheduleRole")
    assert target["Input"] == "{}"


def test_task_is_placed_beside_cache_and_cluster(
    deployed: Deployment, network: dict[str, Any]
) -> None:
    placed = deployed.placed()
    assert placed["Subnets"] == network["private"]
    assert placed["AssignPublicIp"] == "DISABLED"
    assert placed["SecurityGroups"] == [
        deployed.ids("batch")["SecurityGroup"],
        deployed.ids("cache")["ClientSecurityGroup"],
        deployed.ids("dask")["ClientSecurityGroup"],
    ]


class Runs:
    """Runs of the batch in a deployment. The emulator starts no container, so a task goes on until
    it is stopped."""

    def __init__(self, aws: Aws, deployment: Deployment) -> None:
        self.ecs, self.states = aws("ecs"), aws("stepfunctions")
        outputs = deployment.outputs("batch")
        self.state_machine, self.cluster = outputs["StateMachineArn"], outputs["ClusterArn"]

    def start(self, **given: Any) -> str:
        answer = self.states.start_execution(
            stateMachineArn=self.state_machine, input=json.dumps(given)
        )
        return answer["executionArn"]

    def describe(self, execution: str) -> dict[str, Any]:
        return self.states.describe_execution(executionArn=execution)

    def tasks(self) -> list[dict[str, Any]]:
        arns = self.ecs.list_tasks(cluster=self.cluster)["taskArns"]
        return self.ecs.describe_tasks(cluster=self.cluster, tasks=arns)["tasks"] if arns else []

    def is_over(self, execution: str) -> bool:
        return self.describe(execution)["status"] != "RUNNING"

    def end(self, execution: str) -> None:
        """End the task of a run, and wait until the run has ended, too."""
        until(self.tasks)
        for task in self.tasks():
            self.ecs.stop_task(cluster=self.cluster, task=task["taskArn"])
        until(lambda: self.is_over(execution))


def until(condition: Callable[[], Any]) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up, "it did not happen within a minute"
        time.sleep(0.1)


@pytest.fixture
def runs(fresh: Deployment, aws: Aws) -> Runs:
    fresh.deploy("base")
    fresh.deploy("batch", ImageTag="1", CacheStack="")
    return Runs(aws, fresh)


def test_a_run_runs_the_task(runs: Runs, fresh: Deployment) -> None:
    execution = runs.start()
    until(runs.tasks)
    [task] = runs.tasks()
    assert task["taskDefinitionArn"] == fresh.ids("batch")["TaskDefinition"]
    assert task["launchType"] == "FARGATE"
    assert task["overrides"]["containerOverrides"] == []
    assert not runs.is_over(execution)
    runs.end(execution)
    assert runs.describe(execution)["status"] == "SUCCEEDED"


def test_a_run_is_refused_while_another_one_runs(runs: Runs) -> None:
    first = runs.start()
    until(runs.tasks)
    for _ in range(2):
        second = runs.start()
        until(lambda second=second: runs.is_over(second))
        refused = runs.describe(second)
        assert (refused["status"], refused["error"]) == ("FAILED", "AlreadyRunning")
        assert refused["cause"] == "Another batch is running, so this one did nothing."
        assert len(runs.tasks()) == 1
    assert not runs.is_over(first)
    runs.end(first)


def test_of_runs_that_start_at_once_one_runs(runs: Runs) -> None:
    # Once without a holder of the lock, and once with one that has ended.
    for _ in range(2):
        with ThreadPoolExecutor(8) as pool:
            executions = list(pool.map(lambda _: runs.start(), range(8)))
        until(lambda started=executions: sum(map(runs.is_over, started)) == 7)
        until(runs.tasks)
        assert len(runs.tasks()) == 1
        [winner] = [one for one in executions if not runs.is_over(one)]
        runs.end(winner)


def test_a_run_that_was_stopped_does_not_hold_the_lock(runs: Runs) -> None:
    first = runs.start()
    until(runs.tasks)
    runs.states.stop_execution(executionArn=first)
    until(lambda: runs.is_over(first))
    for task in runs.tasks():  # Step Functions stops the task; the emulator does not
        runs.ecs.stop_task(cluster=runs.cluster, task=task["taskArn"])
    second = runs.start()
    until(runs.tasks)
    assert not runs.is_over(second)
    runs.end(second)


def test_a_holder_whose_history_is_gone_does_not_hold_the_lock(
    runs: Runs, fresh: Deployment, aws: Aws
) -> None:
    gone = f"{runs.state_machine.replace('stateMachine', 'execution')}:gone"
    item = {"Name": {"S": "batch"}, "Holder": {"S": gone}}
    aws("dynamodb").put_item(TableName=fresh.ids("batch")["Lock"], Item=item)
    execution = runs.start()
    until(runs.tasks)
    assert not runs.is_over(execution)
    runs.end(execution)


def test_what_the_readme_gives_a_run_reaches_its_containers(runs: Runs, fresh: Deployment) -> None:
    readme = (TEMPLATES / "README.md").read_text()
    inputs = [json.loads(given) for given in re.findall(r"^run --input '(.*)'$", readme, re.M)]
    assert len(inputs) == 2
    for given in inputs:
        execution = runs.start(**given)
        until(runs.tasks)
        [task] = runs.tasks()
        overrides = task["overrides"]["containerOverrides"]
        assert overrides == as_the_api_spells(given["ContainerOverrides"])
        runs.end(execution)
    settings, rollback = (as_the_api_spells(given["ContainerOverrides"]) for given in inputs)
    assert settings == [
        {"name": "build", "environment": [{"name": "MAX_UNLISTED_SHARE", "value": "1"}]}
    ]
    # The program that knows the cache, after one that does nothing.
    assert [one["name"] for one in rollback] == ["build", "publish"]
    assert rollback[0]["command"] == ["true"]
    assert (ROOT / rollback[1]["command"][-1]).is_file()


def test_a_run_ends_before_the_next_night(deployed: Deployment) -> None:
    assert deployed.state_machine()["TimeoutSeconds"] < 24 * 3600


@pytest.mark.parametrize(
    ("container", "has_cluster", "limit"),
    [("build", True, "14400"), ("build", False, "7200"), ("publish", True, "1800")],
)
def test_a_program_that_hangs_is_ended(
    deployed: Deployment,
    fresh: Deployment,
    tmp_path: Path,
    container: str,
    has_cluster: bool,
    limit: str,
) -> None:
    if not has_cluster:
        fresh.deploy("base")
        fresh.deploy("batch", ImageTag="1", CacheStack="", TimeLimitSeconds=limit)
    given = (deployed if has_cluster else fresh).containers("batch")[container]["command"]
    # The same command with a limit of one second, and a Python that ignores the first signal.
    words = "\n".join(given).replace("/tmp/", f"{tmp_path}/")
    words, limits = re.subn(rf"--kill-after=60(\s){limit}\b", r"--kill-after=1\g<1>1", words)
    assert limits == 1
    hangs = tmp_path / "python"
    hangs.write_text("#!/bin/sh\ntrap '' TERM\necho $1\nwhile :; do sleep 1; done\n")
    hangs.chmod(0o755)
    ended = subprocess.run(
        words.split("\n"),
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert ended.stdout == f"scripts/{container}.py\n"
    assert ended.returncode == -signal.SIGKILL


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
        "StartTheBatch": ({"states:StartExecution"}, ids["StateMachine"]),
    }
    here = f"{Aws.region}:{Aws.account}"
    table = f"arn:aws:dynamodb:{here}:table/{ids['Lock']}"
    assert granted(deployed.policies("batch", "StateMachineRole")) == {
        "TakeTheLock": ({"dynamodb:GetItem", "dynamodb:PutItem"}, table),
        "LookAtOtherRuns": (
            {"states:DescribeExecution"},
            f"{ids['StateMachine'].replace(':stateMachine:', ':execution:')}:*",
        ),
        "RunTheBatch": ({"ecs:RunTask"}, ids["TaskDefinition"]),
        "StopTheBatch": (
            {"ecs:DescribeTasks", "ecs:StopTask"},
            f"arn:aws:ecs:{here}:task/{ids['Cluster']}/*",
        ),
        "HearOfItsEnd": (
            {"events:DescribeRule", "events:PutRule", "events:PutTargets"},
            f"arn:aws:events:{here}:rule/StepFunctionsGetEventsForECSTaskRule",
        ),
        "HandItsRolesOver": (
            {"iam:PassRole"},
            [deployed.role_arn("batch", name) for name in ("TaskRole", "ExecutionRole")],
        ),
    }
    everything = granted(deployed.policies("batch", "TaskRole"))
    assert not [one for actions, _ in everything.values() for one in actions if "*" in one]


def test_only_their_services_take_the_roles(deployed: Deployment, aws: Aws) -> None:
    for name, service in (
        ("TaskRole", "ecs-tasks"),
        ("ExecutionRole", "ecs-tasks"),
        ("StateMachineRole", "states"),
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


@pytest.mark.parametrize(
    ("status", "error", "is_told"),
    [
        ("RUNNING", None, False),
        ("SUCCEEDED", None, False),
        ("FAILED", "States.TaskFailed", False),  # the rule above tells of the task
        ("FAILED", "AlreadyRunning", True),
        ("FAILED", "ECS.AccessDeniedException", True),
        ("TIMED_OUT", None, True),
        ("ABORTED", None, True),
    ],
)
def test_runs_without_a_failed_task_are_told(
    deployed: Deployment, aws: Aws, status: str, error: str | None, is_told: bool
) -> None:
    rule = aws("events").describe_rule(Name=deployed.ids("batch")["NoTaskRule"])
    detail = {"stateMachineArn": deployed.ids("batch")["StateMachine"], "status": status}
    event = {
        "id": "1",
        "account": Aws.account,
        "region": Aws.region,
        "time": "2026-01-01T03:10:00Z",
        "source": "aws.states",
        "detail-type": "Step Functions Execution Status Change",
        "resources": [],
        "detail": detail | {"error": error},
    }

    def matches() -> bool:
        answer = aws("events").test_event_pattern(
            EventPattern=rule["EventPattern"], Event=json.dumps(event)
        )
        return answer["Result"]

    assert rule["State"] == "ENABLED"
    assert matches() is is_told
    event["detail"] = detail | {"error": error, "stateMachineArn": "another"}
    assert not matches()


def test_a_refused_run_reaches_the_topic(runs: Runs, fresh: Deployment, aws: Aws) -> None:
    queue = inbox(aws, fresh, "refused")
    first = runs.start()
    until(runs.tasks)
    second = runs.start()
    [message] = aws("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=20)["Messages"]
    text = json.loads(message["Body"])["Message"]
    assert "The batch did not run to its end: FAILED AlreadyRunning." in text
    assert second in text
    runs.end(first)


def inbox(aws: Aws, deployment: Deployment, name: str) -> str:
    """Return a queue that gets what the topic for alerts says."""
    queue = aws("sqs").create_queue(QueueName=name)["QueueUrl"]
    arn = aws("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    aws("sns").subscribe(
        TopicArn=deployment.ids("base")["Alerts"],
        Protocol="sqs",
        Endpoint=arn["Attributes"]["QueueArn"],
    )
    return queue


def test_a_failure_reaches_the_topic(fresh: Deployment, aws: Aws) -> None:
    fresh.deploy("base")
    fresh.deploy("batch", ImageTag="1", CacheStack="")
    sqs, events = aws("sqs"), aws("events")
    queue = inbox(aws, fresh, "inbox")
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
    alarm = deployment.alarm("batch", "BuildAgeAlarm")
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
    assert build["command"][-2:] == ["python", "scripts/build.py"]
    assert not secrets(build)
    assert fresh.placed()["SecurityGroups"] == [fresh.ids("batch")["SecurityGroup"]]


def test_age_alarm_fires_when_nothing_is_published(deployed: Deployment) -> None:
    alarm = deployed.alarm("batch", "BuildAgeAlarm")
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
        MaximumBuildAgeHours="48",
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
    arguments = fresh.state_machine()["States"]["Run"]["Arguments"]
    assert arguments["TaskDefinition"] == task["taskDefinitionArn"]
    assert granted(fresh.policies("batch", "StateMachineRole"))["RunTheBatch"] == (
        {"ecs:RunTask"},
        task["taskDefinitionArn"],
    )
    assert fresh.alarm("batch", "BuildAgeAlarm")["EvaluationPeriods"] == 48
    [group] = aws("logs").describe_log_groups(logGroupNamePrefix=before["LogGroup"])["logGroups"]
    assert group["retentionInDays"] == 30
    changed = {name for name, physical in fresh.ids("batch").items() if physical != before[name]}
    assert changed == {"TaskDefinition"}
