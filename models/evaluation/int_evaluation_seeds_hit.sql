with

basket_items as (

    select
        order_id,
        product_number
    from {{ ref('int_evaluation_basket_items') }}
    where is_test

),

lists as (

    select
        rule,
        product_number,
        recommended_product_number,
        recommendation_rank
    from {{ ref('int_evaluation_lists') }}

),

hit as (

    select
        lists.rule,
        seed.order_id,
        seed.product_number,
        min(lists.recommendation_rank) as recommendation_rank
    from basket_items as seed
    inner join basket_items as other_item
        on
            seed.order_id = other_item.order_id
            and seed.product_number <> other_item.product_number
    inner join lists
        on
            seed.product_number = lists.product_number
            and other_item.product_number = lists.recommended_product_number
    group by
        lists.rule,
        seed.order_id,
        seed.product_number

)

select * from hit
