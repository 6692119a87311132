{% macro literal(text) %}
    {#- Text as a SQL literal, whatever it holds. -#}
    {{- return("'" ~ text.replace("'", "''") ~ "'") -}}
{% endmacro %}
