{% macro set_duckdb_limits() %}
    {#- Unset, DuckDB uses every core and 80 % of the memory. -#}
    {%- if execute -%}
        {%- set threads = env_var('DUCKDB_THREADS', '') -%}
        {%- set memory_limit = env_var('DUCKDB_MEMORY_LIMIT', '') -%}
        {%- if threads -%}
            {%- do run_query("set global threads = " ~ literal(threads)) -%}
        {%- endif -%}
        {%- if memory_limit -%}
            {%- do run_query("set global memory_limit = " ~ literal(memory_limit)) -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}
