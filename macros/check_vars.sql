{% macro check_vars() %}
    {%- set wanted = var('recommendations_per_product') -%}
    {%- if wanted is not integer or wanted is boolean or not 1 <= wanted <= 1000 -%}
        {{- exceptions.raise_compiler_error(
            'recommendations_per_product must be a whole number from 1 to 1000, not ' ~ wanted
        ) -}}
    {%- endif -%}
    {%- set engine = var('pair_engine') -%}
    {%- if engine not in ('duckdb', 'dask') -%}
        {{- exceptions.raise_compiler_error('PAIR_ENGINE must be duckdb or dask, not ' ~ engine) -}}
    {%- endif -%}
{% endmacro %}
