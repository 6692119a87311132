{% macro pair_engine() %}
    {{- return(var('pair_engine')) -}}
{% endmacro %}
