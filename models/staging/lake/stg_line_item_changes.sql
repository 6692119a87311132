with

source as (

    select * from {{ source('lake', 'line_item_changes') }}

),

renamed as (

    select
        order_id,
        product_id,
        quantity,
        change
    from source

)

select * from renamed
