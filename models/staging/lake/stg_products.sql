with

source as (

    select * from {{ source('lake', 'products') }}

),

renamed as (

    select
        product_id,
        category_code,
        product_name
    from source

)

select * from renamed
