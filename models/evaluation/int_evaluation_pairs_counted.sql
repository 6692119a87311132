{% set ranges = 4 %} -- of left products, one after the other: each needs a quarter of the memory

with

basket_items as (

    select
        order_id,
        product_number
    from {{ ref('int_evaluation_basket_items') }}
    where not is_test

),

counted as (

    {% for number in range(ranges) %}
    select
        left_item.product_number as left_product_number,
        right_item.product_number as right_product_number,
        count(*) as copurchase_count
    from basket_items as left_item
    inner join basket_items as right_item
        on
            left_item.order_id = right_item.order_id
            and left_item.product_number < right_item.product_number
    where left_item.product_number % {{ ranges }} = {{ number }}
    group by
        left_item.product_number,
        right_item.product_number
    {{ 'union all' if not loop.last }}
    {% endfor %}

)

select * from counted
