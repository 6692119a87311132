with

source as (

    select * from {{ source('lake', 'line_items') }}

),

renamed as (

    select
        order_id,
        product_id,
        store_id,
        quantity,
        ordered_at
    from source

)

select * from renamed
