"""Run ministack, mended where it reads these templates otherwise than CloudFormation does.

- CloudFormation turns the text of a parameter into the type of the property that it is given to.
  The emulator does so for most, but counts with a service's DesiredCount as it comes.
- It generates passwords without regard to ExcludePunctuation.
- It says of every user of a cache that it has one password.
- It hands a bucket's CORS, public access block and website to its own S3, but not its encryption,
  lifecycle and ownership.
- It names the errors of calls in a state machine as the API does, without `Exception` at the end.
- It has a firewall, but no template can put it before a load balancer.
- It has no Application Auto Scaling: what a template says of it is accepted and does nothing.
"""

import string
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from ministack.app import main
from ministack.services import ecs, elasticache, s3, stepfunctions, waf
from ministack.services.cloudformation import provisioners


def with_a_number(call: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    def called(request: dict[str, Any]) -> Any:
        if "desiredCount" in request:
            request["desiredCount"] = int(request["desiredCount"])
        return call(request)

    return called


def without_punctuation(generate: Callable[[dict[str, Any]], str]) -> Callable[..., str]:
    def generated(properties: dict[str, Any]) -> str:
        rules = properties.get("GenerateSecretString") or {}
        if rules.get("ExcludePunctuation") in (True, "true"):
            rules = {**rules, "ExcludeCharacters": string.punctuation}
            properties = {**properties, "GenerateSecretString": rules}
        return generate(properties)

    return generated


def with_its_passwords(call: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    def called(request: dict[str, Any]) -> Any:
        answer = call(request)
        given = {
            value[0] if isinstance(value, list) else value
            for key, value in request.items()
            if key.startswith("Passwords.member.")
        }
        user = request["UserId"]
        user = elasticache._users.get(user[0] if isinstance(user, list) else user)
        if given and user:
            user["Authentication"] = {"Type": "password", "PasswordCount": len(given)}
        return answer

    return called


def as_xml(tag: str, content: Any) -> ElementTree.Element:
    """Return the XML that S3 takes for a part of a template; a list repeats its element."""
    element = ElementTree.Element(tag)
    if not isinstance(content, dict):
        element.text = str(content).lower() if isinstance(content, bool) else str(content)
        return element
    for name, value in content.items():
        for one in value if isinstance(value, list) else [value]:
            element.append(as_xml(name, one))
    return element


def request(tag: str, rules: list[dict[str, Any]]) -> bytes:
    root = as_xml(tag, {"Rule": rules})
    root.set("xmlns", s3.S3_NS)
    return ElementTree.tostring(root)


def encryption(properties: dict[str, Any]) -> bytes:
    rules = []
    for given in properties["ServerSideEncryptionConfiguration"]:
        rule = dict(given)
        rule["ApplyServerSideEncryptionByDefault"] = rule.pop("ServerSideEncryptionByDefault")
        rules.append(rule)
    return request("ServerSideEncryptionConfiguration", rules)


def ownership(properties: dict[str, Any]) -> bytes:
    return request("OwnershipControls", properties["Rules"])


def lifecycle(properties: dict[str, Any]) -> bytes:
    rules = []
    for given in properties["Rules"]:
        rule = {"ID": given["Id"], "Filter": {"Prefix": given.get("Prefix", "")}} | given
        del rule["Id"]
        if (marker := rule.pop("ExpiredObjectDeleteMarker", None)) is not None:
            rule["Expiration"] = {"ExpiredObjectDeleteMarker": marker}
        rules.append(rule)
    return request("LifecycleConfiguration", rules)


BUCKET_CONFIGURATIONS = (
    ("BucketEncryption", encryption, s3._put_bucket_encryption, s3._delete_bucket_encryption),
    ("LifecycleConfiguration", lifecycle, s3._put_bucket_lifecycle, s3._delete_bucket_lifecycle),
    (
        "OwnershipControls",
        ownership,
        s3._put_bucket_ownership_controls,
        s3._delete_bucket_ownership_controls,
    ),
)


def with_exception(name: Callable[[str, str], str]) -> Callable[[str, str], str]:
    return lambda *given: f"{name(*given).removesuffix('Exception')}Exception"


def associate(_name: str, properties: dict[str, Any], _stack: str) -> tuple[str, dict[str, Any]]:
    waf._associate_web_acl(properties)
    return properties["ResourceArn"], {}


def accept(name: str, _properties: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
    return f"{stack}-{name}", {}


def nothing(*_: Any) -> None:
    pass


MORE_RESOURCES = {
    "AWS::WAFv2::WebACLAssociation": {
        "create": associate,
        "delete": lambda _id, properties: waf._disassociate_web_acl(properties),
    },
    "AWS::ApplicationAutoScaling::ScalableTarget": {"create": accept, "delete": nothing},
    "AWS::ApplicationAutoScaling::ScalingPolicy": {"create": accept, "delete": nothing},
}


if __name__ == "__main__":
    ecs._create_service = with_a_number(ecs._create_service)
    ecs._update_service = with_a_number(ecs._update_service)
    provisioners._sm_secret_string = without_punctuation(provisioners._sm_secret_string)
    elasticache._create_user = with_its_passwords(elasticache._create_user)
    elasticache._modify_user = with_its_passwords(elasticache._modify_user)
    stepfunctions._prefix_sdk_error = with_exception(stepfunctions._prefix_sdk_error)
    provisioners._RESOURCE_HANDLERS.update(MORE_RESOURCES)
    provisioners._S3_BUCKET_CONFIGURATIONS += BUCKET_CONFIGURATIONS
    main()
