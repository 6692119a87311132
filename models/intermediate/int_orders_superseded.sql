with

line_items as not materialized (

    select
        order_key,
        order_id,
        product_id,
        quantity,
        is_whole_order,
        export_id,
        change
    from {{ ref('int_order_lines_versioned') }}

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
        row_number() over (order by source_file, file_number) as file_rank
    from input_files

),

repeatable_orders as (

    select
        order_key,
        change
    from line_items
    where is_whole_order or (select count(*) from input_files) > 1
    group by
        order_key,
        change
    having min(export_id) <> max(export_id)

),

exported as (

    select
        line_items.order_key,
        line_items.product_id,
        line_items.quantity,
        line_items.is_whole_order,
        line_items.export_id,
        line_items.change,
        files_ranked.file_rank
    from line_items
    semi join repeatable_orders
        on
            line_items.order_key = repeatable_orders.order_key
            and line_items.change = repeatable_orders.change
    inner join files_ranked
        on line_items.order_id >> 40 = files_ranked.file_number

),

-- A newer export that repeats something of an older one replaces it; else the two are parts of one
-- order. A record repeats a product unless it is returned; rows repeat a line, with its quantity.
superseded as (

    select distinct
        older.order_key,
        older.export_id,
        older.change
    from exported as older
    inner join exported as newer
        on
            older.order_key = newer.order_key
            and older.product_id = newer.product_id
            and older.change = newer.change
            and (older.file_rank, older.export_id) < (newer.file_rank, newer.export_id)
            and case
                when older.is_whole_order then coalesce(newer.quantity, 0) >= 0
                else older.quantity is not distinct from newer.quantity
            end

)

select * from superseded
