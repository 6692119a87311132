with

line_items as (

    select
        order_key,
        order_id,
        quantity,
        is_cancelled,
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

resolved as (

    select
        line_items.order_key,
        min(line_items.order_id) as order_id,
        bool_or(line_items.is_cancelled) as is_cancelled,
        coalesce(min(line_items.quantity) <= 0, false) as has_returns,
        line_items.change
    from line_items
    anti join superseded
        on
            line_items.order_key = superseded.order_key
            and line_items.export_id = superseded.export_id
            and line_items.change = superseded.change
    group by
        line_items.order_key,
        line_items.change

)

select * from resolved
