with

basket_items as (

    select order_id
    from {{ ref('int_basket_items') }}
    where change > 0

),

state as (

    select
        sizes.file_number,
        sizes.product_count,
        sizes.basket_count
    from {{ ref('stg_state_basket_sizes') }} as sizes
    semi join {{ ref('stg_input_files') }} as input_files
        on sizes.file_number = input_files.file_number

),

baskets as (

    select
        order_id,
        count(*)::integer as product_count
    from basket_items
    group by order_id

),

sized as (

    select
        file_number,
        product_count,
        basket_count
    from state

    union all

    select
        order_id >> 40 as file_number,
        product_count,
        count(*) as basket_count
    from baskets
    group by
        file_number,
        product_count

)

select * from sized
