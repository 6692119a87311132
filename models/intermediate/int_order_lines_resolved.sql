with

line_items as (

    select
        order_key,
        product_id,
        quantity,
        export_id,
        change
    from {{ ref('int_order_lines_versioned') }}

),

superseded as (

    select
        order_key,
        export_id,
        change
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
        on
            line_items.order_key = orders.order_key
            and line_items.change = orders.change
    anti join superseded
        on
            line_items.order_key = superseded.order_key
            and line_items.export_id = superseded.export_id
            and line_items.change = superseded.change

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
