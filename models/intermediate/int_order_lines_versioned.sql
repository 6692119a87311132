{{ config(materialized="view") }} -- a filter, not worth storing

with

line_items as not materialized (

    select
        order_key,
        order_id,
        product_id,
        quantity,
        is_cancelled,
        is_whole_order,
        -- A record of several lines is an export; where a record is a line, a file is.
        case when is_whole_order then order_id else order_id >> 40 end as export_id,
        change
    from {{ ref('stg_line_item_changes') }}
    where order_key is not null

),

changed as not materialized (

    select * from line_items
    where change <> 0

),

unchanged as not materialized (

    select * from line_items
    where change = 0

),

versions as (

    select unnest([-1, 1]) as change

),

untouched as (

    select
        unchanged.order_key,
        unchanged.order_id,
        unchanged.product_id,
        unchanged.quantity,
        unchanged.is_cancelled,
        unchanged.is_whole_order,
        unchanged.export_id,
        unchanged.change
    from unchanged
    anti join changed
        on unchanged.order_key = changed.order_key

),

-- An order that gains or loses a line is taken away as it was, and added as it is.
touched as (

    select
        unchanged.order_key,
        unchanged.order_id,
        unchanged.product_id,
        unchanged.quantity,
        unchanged.is_cancelled,
        unchanged.is_whole_order,
        unchanged.export_id,
        versions.change
    from unchanged
    cross join versions
    semi join changed
        on unchanged.order_key = changed.order_key

),

versioned as (

    select * from changed

    union all

    select * from untouched

    union all

    select * from touched

)

select * from versioned
