with

source as (

    select * from {{ source('state', 'oversized_baskets') }}

),

renamed as (

    select
        order_id,
        product_count
    from source

)

select * from renamed
