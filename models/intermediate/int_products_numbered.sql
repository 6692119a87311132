with

line_items as (

    select product_id
    from {{ ref('int_line_items_kept') }}
    where change > 0

),

state as (

    select
        product_id,
        product_number
    from {{ ref('stg_state_products') }}

),

last as (

    select coalesce(max(product_number), 0) as product_number
    from state

),

-- Any order would do; products that sell alike then stand near each other in the self-join.
added as (

    select
        line_items.product_id,
        (
            last.product_number
            + row_number() over (order by count(*) desc, line_items.product_id asc)
        )::integer as product_number
    from line_items
    cross join last
    anti join state
        on line_items.product_id = state.product_id
    group by
        line_items.product_id,
        last.product_number

),

numbered as (

    select
        product_id,
        product_number
    from state

    union all

    select
        product_id,
        product_number
    from added

)

select * from numbered
