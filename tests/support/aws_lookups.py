"""How to ask the service itself whether a resource of a template is there, by type."""

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from tests.support.cloudformation import Aws

# Every type that a template uses, and a call that raises or is empty when it is not there.
LOOKUPS: dict[str, Callable[[Aws, str], Any]] = {
    "AWS::CloudWatch::Alarm": lambda aws, name: aws("cloudwatch").describe_alarms(
        AlarmNames=[name]
    )["MetricAlarms"],
    "AWS::DynamoDB::Table": lambda aws, name: aws("dynamodb").describe_table(TableName=name)[
        "Table"
    ],
    "AWS::EC2::SecurityGroup": lambda aws, group: aws("ec2").describe_security_groups(
        GroupIds=[group]
    )["SecurityGroups"],
    "AWS::EC2::VPCEndpoint": lambda aws, endpoint: [
        found
        for found in aws("ec2").describe_vpc_endpoints(VpcEndpointIds=[endpoint])["VpcEndpoints"]
        if found["State"] != "deleted"
    ],
    "AWS::ECR::Repository": lambda aws, name: aws("ecr").describe_repositories(
        repositoryNames=[name]
    )["repositories"],
    "AWS::ECS::Cluster": lambda aws, name: active(
        aws("ecs").describe_clusters(clusters=[name])["clusters"]
    ),
    "AWS::ECS::Service": lambda aws, arn: active(
        aws("ecs").describe_services(cluster=arn.split("/")[-2], services=[arn])["services"]
    ),
    "AWS::ECS::TaskDefinition": lambda aws, arn: active(
        [aws("ecs").describe_task_definition(taskDefinition=arn)["taskDefinition"]]
    ),
    "AWS::ElastiCache::ParameterGroup": lambda aws, name: aws(
        "elasticache"
    ).describe_cache_parameter_groups(CacheParameterGroupName=name)["CacheParameterGroups"],
    "AWS::ElastiCache::ReplicationGroup": lambda aws, name: aws(
        "elasticache"
    ).describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"],
    "AWS::ElastiCache::SubnetGroup": lambda aws, name: aws(
        "elasticache"
    ).describe_cache_subnet_groups(CacheSubnetGroupName=name)["CacheSubnetGroups"],
    "AWS::ElastiCache::User": lambda aws, name: aws("elasticache").describe_users(UserId=name)[
        "Users"
    ],
    "AWS::ElastiCache::UserGroup": lambda aws, name: aws("elasticache").describe_user_groups(
        UserGroupId=name
    )["UserGroups"],
    "AWS::ElasticLoadBalancingV2::Listener": lambda aws, arn: aws("elbv2").describe_listeners(
        ListenerArns=[arn]
    )["Listeners"],
    "AWS::ElasticLoadBalancingV2::ListenerRule": lambda aws, arn: aws("elbv2").describe_rules(
        RuleArns=[arn]
    )["Rules"],
    "AWS::ElasticLoadBalancingV2::LoadBalancer": lambda aws, arn: aws(
        "elbv2"
    ).describe_load_balancers(LoadBalancerArns=[arn])["LoadBalancers"],
    "AWS::ElasticLoadBalancingV2::TargetGroup": lambda aws, arn: aws(
        "elbv2"
    ).describe_target_groups(TargetGroupArns=[arn])["TargetGroups"],
    "AWS::Events::Rule": lambda aws, name: aws("events").describe_rule(Name=name)["Arn"],
    "AWS::IAM::Role": lambda aws, name: aws("iam").get_role(RoleName=name)["Role"],
    "AWS::KMS::Key": lambda aws, key: (
        aws("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"
    ),
    "AWS::Logs::LogGroup": lambda aws, name: [
        group
        for group in aws("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        if group["logGroupName"] == name
    ],
    "AWS::Logs::MetricFilter": lambda aws, name: [
        found
        for found in aws("logs").describe_metric_filters()["metricFilters"]
        if found["filterName"] == name
    ],
    "AWS::S3::Bucket": lambda aws, name: aws("s3").head_bucket(Bucket=name),
    "AWS::S3::BucketPolicy": lambda aws, name: aws("s3").get_bucket_policy(
        Bucket=name.removesuffix("-policy")  # CloudFormation names it as its bucket
    ),
    "AWS::SNS::Subscription": lambda aws, arn: aws("sns").get_subscription_attributes(
        SubscriptionArn=arn
    ),
    "AWS::SNS::Topic": lambda aws, arn: aws("sns").get_topic_attributes(TopicArn=arn),
    "AWS::Scheduler::Schedule": lambda aws, name: aws("scheduler").get_schedule(
        Name=name.rsplit("/", 1)[-1]
    ),
    "AWS::SecretsManager::Secret": lambda aws, name: aws("secretsmanager").get_secret_value(
        SecretId=name
    ),
    "AWS::ServiceDiscovery::PrivateDnsNamespace": lambda aws, name: aws(
        "servicediscovery"
    ).get_namespace(Id=name),
    "AWS::ServiceDiscovery::Service": lambda aws, name: aws("servicediscovery").get_service(
        Id=name
    ),
    "AWS::StepFunctions::StateMachine": lambda aws, arn: (
        aws("stepfunctions").describe_state_machine(stateMachineArn=arn)["status"] == "ACTIVE"
    ),
    "AWS::WAFv2::WebACL": lambda aws, parts: aws("wafv2").get_web_acl(
        **dict(zip(("Name", "Id", "Scope"), parts.split("|"), strict=True))
    ),
}

# Parts of another resource, which no service can be asked for by themselves: the test that looks at
# the whole resource says what they made of it.
PARTS = {
    "AWS::ApplicationAutoScaling::ScalableTarget": "test_only_read.py",
    "AWS::ApplicationAutoScaling::ScalingPolicy": "test_only_read.py",
    "AWS::SNS::TopicPolicy": "test_base.py::test_only_alarms_and_events_publish_to_the_topic",
    "AWS::WAFv2::WebACLAssociation": "test_service.py::test_one_address_cannot_send_any_number",
}


def active(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in found if one["status"] == "ACTIVE"]


def exists(aws: Aws, resource_type: str, physical_id: str) -> bool:
    try:
        return bool(LOOKUPS[resource_type](aws, physical_id))
    except ClientError:
        return False
