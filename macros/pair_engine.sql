{% macro pair_engine() %}
    {%- set engine = env_var('PAIR_ENGINE', '') or 'duckdb' -%}
    {%- if engine not in ('duckdb', 'dask') -%}
        {{- exceptions.raise_compiler_error('PAIR_ENGINE must be duckdb or dask, not ' ~ engine) -}}
    {%- endif -%}
    {{- return(engine) -}}
{% endmacro %}
