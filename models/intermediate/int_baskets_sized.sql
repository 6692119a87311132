with

basket_items as (

    select
        order_id,
        change
    from {{ ref('int_basket_items') }}

),

state as (

    select
        file_number,
        product_count,
        basket_count
    from {{ ref('stg_state_basket_sizes') }}

),

baskets as (

    select
        order_id,
        count(*)::integer as product_count,
        change
    from basket_items
    group by
        order_id,
        change

),

added_up as (

    select
        file_number,
        product_count,
        basket_count
    from state

    union all

    select
        order_id >> 40 as file_number,
        product_count,
        sum(change) as basket_count
    from baskets
    group by
        file_number,
        product_count

),

sized as (

    select
        file_number,
        product_count,
        sum(basket_count)::bigint as basket_count
    from added_up
    group by
        file_number,
        product_count
    having sum(basket_count) <> 0

)

select * from sized
