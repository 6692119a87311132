"""Sign DuckDB in to an object store, with the settings that botocore finds and s3fs uses."""

from pathlib import Path
from urllib.parse import urlsplit

import duckdb

from bought_together.errors import CannotRun, describe


class S3Login:
    """Endpoint, region and credentials of the object store; raises CannotRun without them."""

    def __init__(self) -> None:
        import botocore.session
        from botocore.exceptions import BotoCoreError

        self.session = botocore.session.get_session()
        try:
            client = self.session.create_client("s3").meta
        except (BotoCoreError, ValueError) as error:
            raise CannotRun(f"cannot use the object store: {describe(error)}") from error
        address = urlsplit(client.endpoint_url)
        is_aws = (address.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))
        self.options = {
            "endpoint": address.netloc,
            "use_ssl": str(address.scheme == "https").lower(),
            "url_style": "vhost" if is_aws else "path",  # as botocore does
            "region": client.region_name,
        }

    def load(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Load DuckDB's httpfs extension from its Python package, and sign in."""
        import duckdb_extension_httpfs

        folder = Path(duckdb_extension_httpfs.__file__).parent
        connection.load_extension(str(next(folder.rglob("httpfs.duckdb_extension"))))
        # Only one of the extension's two HTTP clients verifies certificates by default.
        connection.execute("set global enable_server_cert_verification = true")
        if authority := self.session.get_config_variable("ca_bundle"):
            connection.execute(f"set global ca_cert_file = {literal(authority)}")
        self.sign_in(connection)

    def sign_in(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Give DuckDB the current credentials; botocore renews a role's before they expire."""
        options = ", ".join(
            f"{name} {literal(value)}" for name, value in {**self.options, **self.keys()}.items()
        )
        connection.execute(f"create or replace temporary secret object_store (type s3, {options})")

    def keys(self) -> dict[str, str]:
        """Return the current credentials as options of DuckDB's secret; raises CannotRun."""
        from botocore.exceptions import BotoCoreError

        try:
            found = self.session.get_credentials()
            keys = found.get_frozen_credentials() if found else None
        except BotoCoreError as error:
            raise CannotRun(f"no credentials for the object store: {describe(error)}") from error
        if keys is None:
            raise CannotRun(
                "no credentials for the object store in the environment, a profile or a role"
            )
        named = {"key_id": keys.access_key, "secret": keys.secret_key, "session_token": keys.token}
        return {name: value for name, value in named.items() if value}


def literal(value: str) -> str:
    """Return the value as an SQL string."""
    return "'" + value.replace("'", "''") + "'"
