with

source as (

    select * from {{ source('pairs', 'product_keys') }}

),

renamed as (

    select
        product_id,
        product_key,
        basket_count
    from source

)

select * from renamed
