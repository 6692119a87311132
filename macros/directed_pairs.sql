{% macro directed_pairs(product_pairs) %}
    select
        left_product_number as product_number,
        right_product_number as other_product_number,
        copurchase_count
    from {{ product_pairs }}

    union all

    select
        right_product_number as product_number,
        left_product_number as other_product_number,
        copurchase_count
    from {{ product_pairs }}
{% endmacro %}
