{{ config(materialized='view') }} -- a handful of rows, for people

with

baskets as (

    select
        order_id,
        product_count
    from {{ ref('int_baskets_oversized') }}
    where change >= 0

),

input_files as (

    select
        file_number,
        source_file
    from {{ ref('stg_input_files') }}

),

located as (

    select
        baskets.order_id,
        input_files.source_file,
        baskets.order_id & ((1::bigint << 40) - 1) as byte_offset,
        baskets.product_count
    from baskets
    inner join input_files
        on baskets.order_id >> 40 = input_files.file_number

)

select * from located
