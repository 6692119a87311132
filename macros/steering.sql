{#- The day on which pins and blocks count: the var as_of, by default that of the build (UTC). -#}
{% macro as_of_day() -%}
    {{ literal(var('as_of') | string or run_started_at.strftime('%Y-%m-%d')) }}::date
{%- endmacro %}


{#- The days of a pin or block; an empty one is open. -#}
{% macro first_day(starts_on='starts_on') -%}
    coalesce({{ starts_on }}, '-infinity'::date)
{%- endmacro %}


{% macro last_day(ends_on='ends_on') -%}
    coalesce({{ ends_on }}, 'infinity'::date)
{%- endmacro %}
