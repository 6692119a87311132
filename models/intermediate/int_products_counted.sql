with

basket_items as (

    select
        product_number,
        change
    from {{ ref('int_basket_items') }}

),

state as (

    select
        product_number,
        basket_count
    from {{ ref('stg_state_products') }}

),

products as (

    select
        product_id,
        product_number
    from {{ ref('int_products_numbered') }}

),

added_up as (

    select
        product_number,
        basket_count
    from state

    union all

    select
        product_number,
        sum(change)::bigint as basket_count
    from basket_items
    group by product_number

),

counted as (

    select
        products.product_id,
        products.product_number,
        sum(added_up.basket_count)::bigint as basket_count
    from added_up
    inner join products
        on added_up.product_number = products.product_number
    group by
        products.product_id,
        products.product_number
    having sum(added_up.basket_count) <> 0

)

select * from counted
