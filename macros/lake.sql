{% macro lake_path() %}
    {{- return(env_var('LAKE_PATH', 'data/lake').rstrip('/')) -}}
{% endmacro %}


{% macro file_literal(path) %}
    {#-
        A quoted path for DuckDB, which reads every path as a glob: [[] matches a plain bracket.
        Nothing but ? matches a backslash, which a glob takes for a separator.
    -#}
    {%- set escapes = {'[': '[[]', '*': '[*]', '?': '[?]', '\\': '?', "'": "''"} -%}
    {%- set ns = namespace(path='') -%}
    {%- for character in path -%}
        {%- set ns.path = ns.path ~ escapes.get(character, character) -%}
    {%- endfor -%}
    {{- return("'" ~ ns.path ~ "'") -}}
{% endmacro %}


{% macro file_exists(path) %}
    {#- Asked with a pattern: in an object store DuckDB does not look for a plain name. -#}
    {%- set pattern = file_literal(path[:-1]) ~ " || '[" ~ path[-1] ~ "]'" -%}
    {{- return(run_query("select count(*) from glob(" ~ pattern ~ ")").rows[0][0] > 0) -}}
{% endmacro %}


{% macro mount_lake() %}
    {#-
        Point the views behind source('lake', …) at one run of the lake, so that every model of a
        build reads the same run, also when the next one becomes current in the meantime.
    -#}
    {%- if execute and flags.WHICH in ('build', 'run', 'test') -%}
        {%- set current = lake_path() ~ '/current.json' -%}
        {%- if not file_exists(current) -%}
            {{- exceptions.raise_compiler_error(
                'no lake at ' ~ lake_path() ~ ': run `python scripts/flatten.py` (or `make build`) first'
            ) -}}
        {%- endif -%}
        {%- set run = run_query(
            "select run from read_json(" ~ file_literal(current) ~ ", columns = {run: 'varchar'})"
        ).rows[0][0] -%}
        {%- set schema = lake_schema() -%}
        {%- do run_query("create schema if not exists " ~ schema) -%}
        {%- do run_query(
            "create or replace view " ~ schema ~ ".mounted_run as select '"
            ~ run.replace("'", "''") ~ "' as run"
        ) -%}
        {%- set run_folder = lake_path() ~ '/runs/' ~ run -%}
        {%- do mount_tables(schema, run_folder, ['line_items', 'products', 'rejects']) -%}
        {%- if pair_engine() == 'dask' -%}
            {%- do mount_tables(
                schema,
                run_folder ~ '/' ~ pairs_folder(run_folder),
                ['product_keys', 'basket_sizes', 'product_pairs']
            ) -%}
        {%- endif -%}
        {%- do log('Reading lake ' ~ lake_path() ~ ', run ' ~ run, info=true) -%}
    {%- endif -%}
{% endmacro %}


{% macro lake_schema() %}
    {#- In full: the warehouse itself may be called lake. -#}
    {{- return(adapter.quote(target.database) ~ '.lake') -}}
{% endmacro %}


{% macro mounted_run() %}
    {#- The run of the lake that this build reads. -#}
    {{- return(run_query("select run from " ~ lake_schema() ~ ".mounted_run").rows[0][0]) -}}
{% endmacro %}


{% macro mount_tables(schema, folder, tables) %}
    {%- for table in tables -%}
        {%- do run_query(
            "create or replace view " ~ schema ~ "." ~ table ~ " as select * from read_parquet("
            ~ file_literal(folder ~ '/' ~ table ~ '/') ~ " || '*.parquet')"
        ) -%}
    {%- endfor -%}
{% endmacro %}


{% macro pairs_folder(run_folder) %}
    {#- The folder in which the run's pairs were last counted. -#}
    {%- set pointer = run_folder ~ '/pairs.json' -%}
    {%- if not file_exists(pointer) -%}
        {{- exceptions.raise_compiler_error(
            'no pairs counted in ' ~ run_folder
            ~ ': run `python scripts/count_pairs.py` (or `make build`) first'
        ) -}}
    {%- endif -%}
    {{- return(run_query(
        "select folder from read_json(" ~ file_literal(pointer) ~ ", columns = {folder: 'varchar'})"
    ).rows[0][0]) -}}
{% endmacro %}
