with

basket_items as not materialized (

    select
        order_id,
        product_number
    from {{ ref('int_evaluation_basket_items') }}
    where not is_test

),

counted as (

    {{ pairs_in_baskets('basket_items') }}

)

select * from counted
