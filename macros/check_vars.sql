{% macro check_vars() %}
    {%- do check_number('recommendations_per_product', 1, 1000, is_whole=true) -%}
    {%- do check_number('max_basket_products', 1, 1000000000, is_whole=true) -%}
    {%- do check_number('max_unlisted_share', 0, 1) -%}
    {%- do check_number('min_baskets_share', 0, 1) -%}
    {%- do check_number('changed_lists_share_warned', 0, 1) -%}
    {%- do check_number('largest_baskets_share_warned', 0, 1) -%}
    {%- do check_number('unlisted_share_warned', 0, 1) -%}
    {%- do check_number('min_copurchase_count', 1, 2147483647, is_whole=true) -%}
    {%- do check_number('evaluation_test_share', 0.01, 0.5) -%}
    {%- do check_day('as_of') -%}
    {%- do check_word('fill_short_lists', ['true', 'false', '1', '0']) -%}
    {%- do check_word('allow_older_data', ['true', 'false', '1', '0']) -%}
    {%- do check_word('pair_engine', ['duckdb', 'dask']) -%}
{% endmacro %}


{% macro check_number(name, least, most, is_whole=false) %}
    {#- A default that reads the environment is text. -#}
    {%- set text = var(name) | string -%}
    {%- set pattern = '[0-9]+' if is_whole else '[0-9]*[.]?[0-9]+' -%}
    {%- if not modules.re.fullmatch(pattern, text) or not least <= text | float <= most -%}
        {{- exceptions.raise_compiler_error(
            setting_name(name) ~ ' must be a ' ~ ('whole number' if is_whole else 'number') ~ ' from ' ~ least
            ~ ' to ' ~ most ~ ', not ' ~ text
        ) -}}
    {%- endif -%}
{% endmacro %}


{% macro check_word(name, words) %}
    {%- set text = var(name) | string | lower if 'true' in words else var(name) | string -%}
    {%- if text not in words -%}
        {{- exceptions.raise_compiler_error(
            setting_name(name) ~ ' must be ' ~ words | join(' or ') ~ ', not ' ~ text
        ) -}}
    {%- endif -%}
{% endmacro %}


{% macro check_day(name) %}
    {%- set text = var(name) | string -%}
    {%- set pattern = '[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])' -%}
    {%- if text and not modules.re.fullmatch(pattern, text) -%}
        {{- exceptions.raise_compiler_error(
            setting_name(name) ~ ' must be a day like 2026-12-24, not ' ~ text
        ) -}}
    {%- endif -%}
{% endmacro %}


{% macro setting_name(name) %}
    {#- The name under which a person set a var: that of the environment variable, if it is set. -#}
    {{- return(name | upper if env_var(name | upper, '') else name) -}}
{% endmacro %}
