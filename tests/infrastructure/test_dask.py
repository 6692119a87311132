"""The optional Dask cluster, and the optional ways to AWS without a NAT gateway."""

from typing import Any

from tests.support.cloudformation import Aws, Deployment, granted, secrets


def test_cluster_speaks_tls(deployed: Deployment, certificates: str) -> None:
    for resource, name, program in (
        ("SchedulerTaskDefinition", "scheduler", "exec dask scheduler --protocol tls --port 8786"),
        ("WorkerTaskDefinition", "worker", "exec dask worker tls://scheduler.whole-dask.internal"),
    ):
        container = deployed.containers("dask", resource)[name]
        assert secrets(container) == {
            "DASK_CA": f"{certificates}:ca::",
            "DASK_CERTIFICATE": f"{certificates}:certificate::",
            "DASK_KEY": f"{certificates}:key::",
        }
        command = container["command"][-1]
        assert program in command
        for option, secret in (("ca-file", "CA"), ("cert", "CERTIFICATE"), ("key", "KEY")):
            [path] = [part.split()[0] for part in command.split(f"--tls-{option} ")[1:]]
            assert f'"$DASK_{secret}" > {path};' in command
        repository = deployed.outputs("base")["BatchRepositoryUri"]
        assert container["image"] == f"{repository}:1.0.0"


def test_scheduler_is_found_by_name(aws: Aws, deployed: Deployment) -> None:
    discovery, ids = aws("servicediscovery"), deployed.ids("dask")
    namespace = discovery.get_namespace(Id=ids["Namespace"])["Namespace"]
    name = discovery.get_service(Id=ids["SchedulerName"])["Service"]
    assert name["NamespaceId"] == ids["Namespace"]
    assert [record["Type"] for record in name["DnsConfig"]["DnsRecords"]] == ["A"]
    address = f"tls://{name['Name']}.{namespace['Name']}:8786"
    assert deployed.outputs("dask")["SchedulerAddress"] == address


def test_cluster_is_reached_by_its_clients_alone(deployed: Deployment) -> None:
    ids = deployed.ids("dask")
    [ingress] = deployed.security_group("dask", "SecurityGroup")["IpPermissions"]
    assert (ingress["FromPort"], ingress["ToPort"]) == (8786, 8788)
    assert not ingress["IpRanges"]
    assert [one["GroupId"] for one in ingress["UserIdGroupPairs"]] == [ids["ClientSecurityGroup"]]
    for name in ("Scheduler", "Worker"):
        placed = deployed.service("dask", name)["networkConfiguration"]["awsvpcConfiguration"]
        assert placed["securityGroups"] == [ids["SecurityGroup"], ids["ClientSecurityGroup"]]


def test_only_workers_reach_the_lake(deployed: Deployment) -> None:
    assert "taskRoleArn" not in {
        key
        for key, value in deployed.task_definition("dask", "SchedulerTaskDefinition").items()
        if value
    }
    worker = deployed.task_definition("dask", "WorkerTaskDefinition")
    assert worker["taskRoleArn"] == deployed.role_arn("dask", "TaskRole")
    assert granted(deployed.policies("dask", "TaskRole")) == granted(
        deployed.policies("batch", "TaskRole")
    )


def test_workers_can_be_changed(fresh: Deployment, certificates: str) -> None:
    fresh.deploy("base")
    fresh.deploy("dask", ImageTag="1", CertificatesArn=certificates)
    assert fresh.service("dask", "Worker")["desiredCount"] == 2
    fresh.deploy("dask", WorkerCount="0", WorkerCpu="8192", WorkerThreads="8")
    assert fresh.service("dask", "Worker")["desiredCount"] == 0
    assert fresh.service("dask", "Scheduler")["desiredCount"] == 1
    task = fresh.task_definition("dask", "WorkerTaskDefinition")
    assert task["cpu"] == "8192"
    assert "--nthreads 8 " in task["containerDefinitions"][0]["command"][-1]


def test_endpoints(aws: Aws, deployed: Deployment, network: dict[str, Any]) -> None:
    ids = deployed.ids("endpoints")
    chosen = [physical for name, physical in ids.items() if name.endswith("Endpoint")]
    answer = aws("ec2").describe_vpc_endpoints(VpcEndpointIds=chosen)["VpcEndpoints"]
    found = {one["ServiceName"].split(f"{Aws.region}.")[1]: one for one in answer}
    assert found.keys() == {"s3", "ecr.api", "ecr.dkr", "logs", "secretsmanager"}
    gateway = found.pop("s3")
    assert gateway["VpcEndpointType"] == "Gateway"
    assert gateway["RouteTableIds"] == [network["table"]]
    for endpoint in found.values():
        assert endpoint["VpcEndpointType"] == "Interface"
        assert endpoint["SubnetIds"] == network["private"]
    [ingress] = deployed.security_group("endpoints", "SecurityGroup")["IpPermissions"]
    assert ingress["FromPort"] == 443
    assert [one["CidrIp"] for one in ingress["IpRanges"]] == ["10.0.0.0/16"]
