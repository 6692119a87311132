"""Templates, clients of the emulator, and deployments of the templates in it."""

import json
from functools import cache
from typing import Any

import boto3
import yaml

from tests.support import ROOT

TEMPLATES = ROOT / "deploy" / "cloudformation"
NAMES = ("base", "cache", "dask", "batch", "service", "endpoints")
WAIT = {"Delay": 0.1, "MaxAttempts": 300}


class Template(yaml.SafeLoader):
    """Reads !Ref, !Sub and the like as their argument; enough to count what is there."""


def plain(loader: yaml.SafeLoader, _tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True)


Template.add_multi_constructor("!", plain)


def template_text(template: str) -> str:
    return (TEMPLATES / f"{template}.yaml").read_text()


def template_resources(template: str) -> dict[str, dict[str, Any]]:
    return yaml.load(template_text(template), Template)["Resources"]


def as_the_api_spells(value: Any) -> Any:
    """Return a task definition with the keys of the API where it has those of the template."""
    if isinstance(value, dict):
        return {key[:1].lower() + key[1:]: as_the_api_spells(one) for key, one in value.items()}
    return [as_the_api_spells(one) for one in value] if isinstance(value, list) else value


def mend_task_definition(response_dict: dict[str, Any], **_: Any) -> None:
    # The emulator answers some parts as the template spells them, and boto3 would drop those.
    body = as_the_api_spells(json.loads(response_dict["body"]))
    response_dict["body"] = json.dumps(body).encode()


class Aws:
    """`aws("s3")` is the client of a service in the emulator."""

    region = "eu-central-1"
    account = "000000000000"

    def __init__(self, session: boto3.Session, endpoint: str) -> None:
        events = session.events
        events.register("before-parse.ecs.DescribeTaskDefinition", mend_task_definition)
        self.client = cache(lambda name: session.client(name, endpoint_url=endpoint))

    def __call__(self, service: str) -> Any:
        return self.client(service)


class Deployment:
    """Stacks whose names begin alike and that know one another."""

    def __init__(self, aws: Aws, network: dict[str, Any], prefix: str) -> None:
        self.aws = aws
        self.network = network
        self.prefix = prefix
        self.stacks: dict[str, dict[str, str]] = {}

    def name(self, template: str) -> str:
        return f"{self.prefix}-{template}"

    def parameters(self, template: str, given: dict[str, str]) -> list[dict[str, str]]:
        if template == "base":
            known = {
                "VpcId": self.network["vpc"],
                "VpcCidr": "10.0.0.0/16",
                "PrivateSubnetIds": ",".join(self.network["private"]),
            }
        else:
            known = {"BaseStack": self.name("base")}
        if template in ("batch", "service"):
            known |= {"CacheStack": self.name("cache")}
        if template == "service":
            known |= {
                "LoadBalancerSubnetIds": ",".join(self.network["public"]),
                "AllowedCidr": "10.0.0.0/16",
            }
        return [
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in {**known, **given}.items()
        ]

    def deploy(self, template: str, **given: str) -> None:
        """Create a stack, or update it: parameters that are not given again stay as they were."""
        cloudformation = self.aws("cloudformation")
        given = {**self.stacks.get(template, {}), **given}
        act, done = (
            (cloudformation.update_stack, "stack_update_complete")
            if template in self.stacks
            else (cloudformation.create_stack, "stack_create_complete")
        )
        act(
            StackName=self.name(template),
            TemplateBody=template_text(template),
            Parameters=self.parameters(template, given),
            Capabilities=["CAPABILITY_IAM"],
        )
        self.stacks[template] = given
        waiter = cloudformation.get_waiter(done)
        waiter.wait(StackName=self.name(template), WaiterConfig=WAIT)

    def delete(self, template: str) -> None:
        cloudformation = self.aws("cloudformation")
        cloudformation.delete_stack(StackName=self.name(template))
        waiter = cloudformation.get_waiter("stack_delete_complete")
        waiter.wait(StackName=self.name(template), WaiterConfig=WAIT)
        del self.stacks[template]

    def delete_all(self) -> None:
        for template in reversed(list(self.stacks)):
            self.delete(template)

    def ids(self, template: str) -> dict[str, str]:
        """Return what CloudFormation says it made: name in the template to identifier."""
        answer = self.aws("cloudformation").describe_stack_resources(StackName=self.name(template))
        return {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for resource in answer["StackResources"]
        }

    def outputs(self, template: str) -> dict[str, str]:
        answer = self.aws("cloudformation").describe_stacks(StackName=self.name(template))
        return {one["OutputKey"]: one["OutputValue"] for one in answer["Stacks"][0]["Outputs"]}

    # What the tests ask the services themselves.

    def state_machine(self) -> dict[str, Any]:
        """Return the definition of the state machine that runs the batch."""
        arn = self.ids("batch")["StateMachine"]
        answer = self.aws("stepfunctions").describe_state_machine(stateMachineArn=arn)
        return json.loads(answer["definition"])

    def placed(self) -> dict[str, Any]:
        """Return the network of the batch's task."""
        arguments = self.state_machine()["States"]["Run"]["Arguments"]
        return arguments["NetworkConfiguration"]["AwsvpcConfiguration"]

    def task_definition(self, template: str, resource: str = "TaskDefinition") -> dict[str, Any]:
        arn = self.ids(template)[resource]
        return self.aws("ecs").describe_task_definition(taskDefinition=arn)["taskDefinition"]

    def containers(self, template: str, resource: str = "TaskDefinition") -> dict[str, Any]:
        definitions = self.task_definition(template, resource)["containerDefinitions"]
        return {container["name"]: container for container in definitions}

    def service(self, template: str, resource: str = "Service") -> dict[str, Any]:
        ids = self.ids(template)
        answer = self.aws("ecs").describe_services(cluster=ids["Cluster"], services=[ids[resource]])
        return answer["services"][0]

    def alarm(self, template: str, resource: str) -> dict[str, Any]:
        name = self.ids(template)[resource]
        answer = self.aws("cloudwatch").describe_alarms(AlarmNames=[name])
        return answer["MetricAlarms"][0]

    def schedule(self) -> dict[str, Any]:
        name = self.ids("batch")["Schedule"].rsplit("/", 1)[-1]
        return self.aws("scheduler").get_schedule(Name=name)

    def security_group(self, template: str, resource: str) -> dict[str, Any]:
        answer = self.aws("ec2").describe_security_groups(GroupIds=[self.ids(template)[resource]])
        return answer["SecurityGroups"][0]

    def role_arn(self, template: str, resource: str) -> str:
        return self.aws("iam").get_role(RoleName=self.ids(template)[resource])["Role"]["Arn"]

    def policies(self, template: str, role: str) -> list[dict[str, Any]]:
        """Return the statements of a role's policies."""
        iam, name = self.aws("iam"), self.ids(template)[role]
        assert not iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        return [
            statement
            for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]
            for statement in iam.get_role_policy(RoleName=name, PolicyName=policy)[
                "PolicyDocument"
            ]["Statement"]
        ]


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["environment"]}


def secrets(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["valueFrom"] for one in container.get("secrets", [])}


def granted(statements: list[dict[str, Any]]) -> dict[str, tuple[set[str], Any]]:
    """Return actions and resources by the statement's name."""
    assert all(statement["Effect"] == "Allow" for statement in statements)
    return {
        statement["Sid"]: (
            {statement["Action"]}
            if isinstance(statement["Action"], str)
            else set(statement["Action"]),
            statement["Resource"],
        )
        for statement in statements
    }
