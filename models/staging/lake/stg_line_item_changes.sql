with

source as (

    select * from {{ source('lake', 'line_item_changes') }}

),

renamed as (

    select
        order_id,
        product_id,
        order_key,
        quantity,
        is_cancelled,
        is_whole_order,
        change
    from source

)

select * from renamed
