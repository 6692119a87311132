with

source as (

    select * from {{ source('state', 'basket_sizes') }}

),

renamed as (

    select
        file_number,
        product_count,
        basket_count
    from source

)

select * from renamed
