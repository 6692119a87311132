{% macro directed_pairs(product_pairs) %}
    select
        left_product_key as product_key,
        right_product_key as other_product_key,
        copurchase_count
    from {{ product_pairs }}

    union all

    select
        right_product_key as product_key,
        left_product_key as other_product_key,
        copurchase_count
    from {{ product_pairs }}
{% endmacro %}
