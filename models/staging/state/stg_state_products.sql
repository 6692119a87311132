with

source as (

    select * from {{ source('state', 'products') }}

),

renamed as (

    select
        product_id,
        product_number,
        basket_count
    from source

)

select * from renamed
