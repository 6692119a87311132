with

line_items as (

    select
        order_key,
        order_id,
        product_id,
        quantity,
        is_whole_order
    from {{ ref('stg_line_item_changes') }}
    where order_key is not null

),

superseded as (

    select
        order_key,
        export_id
    from {{ ref('int_orders_superseded') }}

),

orders as (

    select
        order_key,
        order_id,
        has_returns,
        change
    from {{ ref('int_orders_resolved') }}
    where not is_cancelled

),

ordered as (

    select
        orders.order_id,
        line_items.product_id,
        line_items.quantity,
        orders.has_returns,
        orders.change
    from line_items
    inner join orders
        on line_items.order_key = orders.order_key
    anti join superseded
        on
            line_items.order_key = superseded.order_key
            and superseded.export_id
            = case
                when line_items.is_whole_order then line_items.order_id
                else line_items.order_id >> 40
            end

),

-- Rounded: of 0.1 and 0.2 kilos bought, returning 0.3 leaves nothing.
netted as (

    select
        order_id,
        product_id,
        round(sum(coalesce(quantity, 1)), 6) as quantity,
        change
    from ordered
    where has_returns
    group by
        order_id,
        product_id,
        change

),

-- Few orders have returns, and the lines of the others need no sum.
resolved as (

    select
        order_id,
        product_id,
        quantity,
        change
    from ordered
    where not has_returns

    union all

    select
        order_id,
        product_id,
        quantity,
        change
    from netted

)

select * from resolved
