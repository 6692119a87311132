{#- The comparison of numbers gives each unordered pair once, and no product with itself. -#}
{% macro pairs_in_baskets(basket_items) %}
    select
        left_item.product_number as left_product_number,
        right_item.product_number as right_product_number,
        count(*) as copurchase_count
    from {{ basket_items }} as left_item
    inner join {{ basket_items }} as right_item
        on
            left_item.order_id = right_item.order_id
            and left_item.product_number < right_item.product_number
    group by
        left_item.product_number,
        right_item.product_number
{% endmacro %}
