with

line_items as (

    select
        order_key,
        order_id,
        quantity,
        is_cancelled,
        is_whole_order,
        change
    from {{ ref('stg_line_item_changes') }}
    where order_key is not null

),

superseded as (

    select
        order_key,
        export_id
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
            and superseded.export_id
            = case
                when line_items.is_whole_order then line_items.order_id
                else line_items.order_id >> 40
            end
    group by
        line_items.order_key,
        line_items.change

)

select * from resolved
