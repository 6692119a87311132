{#-
    The count is in the high bits, the complement of the product key in the low 32. Keys are dense
    by popularity, then id, so a larger number is a better recommendation.
-#}
{% macro pack_rank(copurchase_count, product_key) -%}
    ({{ copurchase_count }}::bigint * 4294967296 + (4294967295 - {{ product_key }}::bigint))
{%- endmacro %}


{% macro unpack_copurchase_count(packed_rank) -%}
    ({{ packed_rank }} >> 32)
{%- endmacro %}


{% macro unpack_product_key(packed_rank) -%}
    (4294967295 - ({{ packed_rank }} & 4294967295))::integer
{%- endmacro %}
