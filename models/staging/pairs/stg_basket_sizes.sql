with

source as (

    select * from {{ source('pairs', 'basket_sizes') }}

),

renamed as (

    select
        order_id,
        product_count
    from source

)

select * from renamed
