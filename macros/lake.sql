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


{% macro mount_lake() %}
    {#-
        Point the views behind source('lake', …) at one run of the lake, so that every model of a
        build reads the same run, also when the next one becomes current in the meantime.
    -#}
    {%- if execute and flags.WHICH in ('build', 'run', 'test') -%}
        {%- set current = lake_path() ~ '/current.json' -%}
        {%- set found = run_query("select count(*) from glob(" ~ file_literal(current) ~ ")") -%}
        {%- if found.rows[0][0] == 0 -%}
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
    {%- set pointer = file_literal(run_folder ~ '/pairs.json') -%}
    {%- if run_query("select count(*) from glob(" ~ pointer ~ ")").rows[0][0] == 0 -%}
        {{- exceptions.raise_compiler_error(
            'no pairs counted in ' ~ run_folder
            ~ ': run `python scripts/count_pairs.py` (or `make build`) first'
        ) -}}
    {%- endif -%}
    {{- return(run_query(
        "select folder from read_json(" ~ pointer ~ ", columns = {folder: 'varchar'})"
    ).rows[0][0]) -}}
{% endmacro %}
