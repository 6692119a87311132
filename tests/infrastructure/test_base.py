"""The bucket, the registry, the key and the topic, as their services describe them."""

import json

import pytest

from tests.support.cloudformation import Aws, Deployment


@pytest.fixture
def bucket(deployed: Deployment) -> str:
    return deployed.ids("base")["Bucket"]


@pytest.fixture
def key_arn(aws: Aws, deployed: Deployment) -> str:
    return aws("kms").describe_key(KeyId=deployed.ids("base")["Key"])["KeyMetadata"]["Arn"]


def test_bucket_is_encrypted_with_the_key(aws: Aws, bucket: str, key_arn: str) -> None:
    answer = aws("s3").get_bucket_encryption(Bucket=bucket)
    [rule] = answer["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": "aws:kms",
        "KMSMasterKeyID": key_arn,
    }
    assert rule["BucketKeyEnabled"]


def test_bucket_is_versioned_and_private(aws: Aws, bucket: str) -> None:
    s3 = aws("s3")
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    block = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert len(block) == 4 and all(block.values())
    [rule] = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]
    assert rule["ObjectOwnership"] == "BucketOwnerEnforced"


def test_bucket_clears_away_what_nobody_needs(aws: Aws, bucket: str) -> None:
    rules = aws("s3").get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert all(rule["Status"] == "Enabled" for rule in rules)
    [abort] = [rule for rule in rules if "AbortIncompleteMultipartUpload" in rule]
    assert abort["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 2}
    [expire] = [rule for rule in rules if "NoncurrentVersionExpiration" in rule]
    assert expire["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert not any("Days" in rule.get("Expiration", {}) for rule in rules), "current data expires"


def test_bucket_refuses_what_is_not_tls(aws: Aws, bucket: str) -> None:
    policy = json.loads(aws("s3").get_bucket_policy(Bucket=bucket)["Policy"])
    [statement] = policy["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Principal"] == "*"
    assert statement["Action"] == "s3:*"
    assert statement["Resource"] == [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


@pytest.mark.parametrize("repository", ["BatchRepository", "ServiceRepository"])
def test_registry(aws: Aws, deployed: Deployment, key_arn: str, repository: str) -> None:
    ecr, name = aws("ecr"), deployed.ids("base")[repository]
    [found] = ecr.describe_repositories(repositoryNames=[name])["repositories"]
    assert found["imageTagMutability"] == "IMMUTABLE"
    assert found["imageScanningConfiguration"] == {"scanOnPush": True}
    assert found["encryptionConfiguration"] == {"encryptionType": "KMS", "kmsKey": key_arn}
    policy = json.loads(ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"])
    [rule] = policy["rules"]
    assert rule["selection"]["countType"] == "imageCountMoreThan"
    assert rule["selection"]["countNumber"] == 30
    assert rule["action"] == {"type": "expire"}


def of_this_account(key: str, service: str, what: str) -> dict[str, dict[str, str]]:
    return {"ArnLike": {key: f"arn:aws:{service}:{Aws.region}:{Aws.account}:{what}"}}


def test_key_rotates_and_serves_logs_and_alarms(aws: Aws, key_arn: str) -> None:
    kms = aws("kms")
    assert kms.get_key_rotation_status(KeyId=key_arn)["KeyRotationEnabled"]
    policy = json.loads(kms.get_key_policy(KeyId=key_arn, PolicyName="default")["Policy"])
    users = [one for one in policy["Statement"] if "Service" in one["Principal"]]
    assert [(one["Principal"]["Service"], one["Condition"]) for one in users] == [
        (
            f"logs.{Aws.region}.amazonaws.com",
            of_this_account("kms:EncryptionContext:aws:logs:arn", "logs", "log-group:*"),
        ),
        (
            ["cloudwatch.amazonaws.com", "events.amazonaws.com"],
            of_this_account("kms:EncryptionContext:aws:sns:topicArn", "sns", "*"),
        ),
    ]


def test_topic_mails(aws: Aws, deployed: Deployment) -> None:
    topic = deployed.ids("base")["Alerts"]
    [subscription] = aws("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "shop@example.com")


def test_only_alarms_and_events_publish_to_the_topic(aws: Aws, deployed: Deployment) -> None:
    topic = deployed.ids("base")["Alerts"]
    attributes = aws("sns").get_topic_attributes(TopicArn=topic)["Attributes"]
    alarms, events = json.loads(attributes["Policy"])["Statement"]
    for statement, service in ((alarms, "cloudwatch"), (events, "events")):
        assert statement["Principal"] == {"Service": f"{service}.amazonaws.com"}
        assert statement["Action"] == "sns:Publish"
        assert statement["Resource"] == topic
    assert alarms["Condition"] == {"StringEquals": {"aws:SourceAccount": Aws.account}}


def test_without_an_address_nobody_is_told(aws: Aws, fresh: Deployment) -> None:
    fresh.deploy("base")
    topic = fresh.ids("base")["Alerts"]
    assert not aws("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]


def test_old_versions_can_be_kept_longer(aws: Aws, fresh: Deployment) -> None:
    fresh.deploy("base")
    fresh.deploy("base", NoncurrentVersionDays="90")
    bucket = fresh.ids("base")["Bucket"]
    rules = aws("s3").get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert {"NoncurrentDays": 90} in [rule.get("NoncurrentVersionExpiration") for rule in rules]
