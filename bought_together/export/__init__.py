"""What `dbt build` exports, read for the lookup, the service and Redis."""
