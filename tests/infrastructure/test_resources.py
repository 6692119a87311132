"""Every resource of every template is there when its stack is, as its own service says."""

import pytest
from botocore.exceptions import ClientError

from tests.support.aws_lookups import LOOKUPS, PARTS, exists
from tests.support.cloudformation import NAMES, TEMPLATES, Aws, Deployment, template_resources

RETAINED = {"Key", "Bucket", "BucketPolicy"}


def test_every_template_is_deployed() -> None:
    assert {path.stem for path in TEMPLATES.glob("*.yaml")} == set(NAMES)


@pytest.mark.parametrize("template", NAMES)
def test_every_resource_is_looked_at(template: str) -> None:
    types = {resource["Type"] for resource in template_resources(template).values()}
    assert types <= LOOKUPS.keys() | PARTS.keys()
    assert not LOOKUPS.keys() & PARTS.keys()


@pytest.mark.parametrize("template", NAMES)
def test_every_resource_is_created(aws: Aws, deployed: Deployment, template: str) -> None:
    resources, ids = template_resources(template), deployed.ids(template)
    assert ids.keys() == resources.keys()
    missing = [
        f"{name} {ids[name]}"
        for name, resource in resources.items()
        if resource["Type"] in LOOKUPS and not exists(aws, resource["Type"], ids[name])
    ]
    assert not missing


def test_deletion_leaves_the_data_and_nothing_else(
    aws: Aws, fresh: Deployment, network, certificates: str, web_certificate: str
) -> None:
    fresh.deploy("base", AlertEmail="shop@example.com")
    fresh.deploy("cache")
    fresh.deploy("dask", ImageTag="1", CertificatesArn=certificates)
    fresh.deploy("batch", ImageTag="1", DaskStack=fresh.name("dask"))
    fresh.deploy("service", ImageTag="1", Scheme="internet-facing", CertificateArn=web_certificate)
    fresh.deploy("endpoints", RouteTableIds=network["table"])
    made = {template: fresh.ids(template) for template in NAMES}
    aws("s3").put_object(Bucket=made["base"]["Bucket"], Key="source/products.txt", Body=b"1\t1\tA")

    fresh.delete_all()

    left = {
        name
        for template, ids in made.items()
        for name, resource in template_resources(template).items()
        if resource["Type"] in LOOKUPS and exists(aws, resource["Type"], ids[name])
    }
    assert left == RETAINED
    kept = aws("s3").get_object(Bucket=made["base"]["Bucket"], Key="source/products.txt")
    assert kept["Body"].read() == b"1\t1\tA"


def test_what_others_stand_on_cannot_be_deleted(aws: Aws, fresh: Deployment) -> None:
    fresh.deploy("base")
    fresh.deploy("cache")
    repository = fresh.ids("base")["BatchRepository"]
    with pytest.raises(ClientError, match="is imported by stack"):
        aws("cloudformation").delete_stack(StackName=fresh.name("base"))
    assert exists(aws, "AWS::ECR::Repository", repository)
