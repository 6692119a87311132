{% macro require_lake() %}
    {#- Stop a build before its first model where the lake has nothing to read. -#}
    {%- if execute and flags.WHICH in ('build', 'run', 'test') -%}
        {%- do log('Reading run ' ~ mounted_run() ~ ' of the lake', info=true) -%}
        {%- if var('pair_engine') == 'dask' -%}
            {%- do run_query("select folder from " ~ lake_schema() ~ ".mounted_count") -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}


{% macro mounted_run() %}
    {#- The run of the lake that the views of source('lake', …) point at. -#}
    {{- return(run_query("select run from " ~ lake_schema() ~ ".mounted_run").rows[0][0]) -}}
{% endmacro %}


{% macro lake_schema() %}
    {#- In full: the warehouse itself may be called lake. -#}
    {{- return(adapter.quote(target.database) ~ '.lake') -}}
{% endmacro %}
