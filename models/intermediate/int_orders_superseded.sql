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

input_files as (

    select
        file_number,
        source_file
    from {{ ref('stg_input_files') }}

),

-- Of two files, the one whose path comes last is the newer, whenever each was first read.
files_ranked as (

    select
        file_number,
        row_number() over (order by source_file) as file_rank
    from input_files

),

-- Where a record has several lines, an export is a record; where it is a line, it is a file.
repeatable_orders as (

    select order_key
    from line_items
    where is_whole_order or (select count(*) from input_files) > 1
    group by order_key
    having
        min(order_id >> 40) <> max(order_id >> 40)
        or (bool_or(is_whole_order) and min(order_id) <> max(order_id))

),

exported as (

    select
        line_items.order_key,
        line_items.product_id,
        line_items.quantity,
        line_items.is_whole_order,
        case
            when line_items.is_whole_order then line_items.order_id
            else line_items.order_id >> 40
        end as export_id,
        (files_ranked.file_rank << 40)
        + case
            when line_items.is_whole_order then line_items.order_id & ((1::bigint << 40) - 1)
            else 0
        end as export_rank
    from line_items
    semi join repeatable_orders
        on line_items.order_key = repeatable_orders.order_key
    inner join files_ranked
        on line_items.order_id >> 40 = files_ranked.file_number

),

-- A newer export that repeats something of an older one replaces it; else the two are parts of one
-- order. A record repeats a product unless it is returned; rows repeat a line, with its quantity.
superseded as (

    select distinct
        older.order_key,
        older.export_id
    from exported as older
    inner join exported as newer
        on
            older.order_key = newer.order_key
            and older.product_id = newer.product_id
            and older.export_rank < newer.export_rank
            and case
                when older.is_whole_order then coalesce(newer.quantity, 0) >= 0
                else older.quantity is not distinct from newer.quantity
            end

)

select * from superseded
