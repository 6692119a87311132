with

source as (

    select * from {{ source('published', 'published_products') }}

),

renamed as (

    select
        product_id,
        basket_count,
        is_in_catalogue
    from source

)

select * from renamed
